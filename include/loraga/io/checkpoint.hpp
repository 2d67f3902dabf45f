#pragma once
#include <loraga/io/checkpoint_visitors.hpp>

// A training's whole state in one file, from which it goes on bit for bit. The file is a safetensors file, so that it
// can be looked at with any tool that reads those.

namespace loraga {

namespace format {

/// Throws what load_checkpoint refuses; nothing changes.
template <Backend B, class Items>
void compare_checkpoint(B& be, safetensors_file const& file, Items const& items, checkpoint_options options) {
  if (file.metadata() != checkpoint_metadata)
    raise<format_error>("load_checkpoint", file.path().string(), "no checkpoint of this format and version",
                        "loraga-checkpoint, version 1");
  checkpoint_reading<B> look(be, file, options, true);
  items(look);
  look.require_all_seen();
}
/// The objects become what the file holds, once it was compared with them.
template <Backend B, class Items>
void take_checkpoint(B& be, safetensors_file const& file, Items const& items, checkpoint_options options) {
  checkpoint_reading<B> reading(be, file, options, false);
  items(reading);
  be.synchronize();
}

}  // namespace format

/// Writes a checkpoint. The file before it stays until the new one is whole and on disk.
/// `items` is called twice with a visitor c and names everything:
///   c("adapter.0", adapter), c("optimiser", optimiser), c("gradient.0", accumulator), c("step", step);
/// What can be named: this library's adapters, optimisers and accumulators; numbers, strings, std::vectors of numbers;
/// views of matrices; and classes of your own with
///   template <class C> void visit_state(C& c) { c("name", member), c.same("name", a_number_that_must_agree); }
/// Both visits must name the same things. Loading visits twice as well, and members take what the file holds in the
/// second visit only. c.stores() is true in that one: what follows from members may change then.
/// errors  file_error; state_error for a merged adapter; value_error for a name given twice
template <Backend B, class Items>
void save_checkpoint(B& be, std::filesystem::path const& path, Items const& items) {
  format::checkpoint_survey<B> survey(be);
  items(survey);
  safetensors_writer writer(path, survey.specs, format::checkpoint_metadata, overwrite::yes);
  format::checkpoint_writing<B> writing(be, writer);
  items(writing);
  writer.commit();
}

/// Reads a checkpoint into objects built as when it was saved; `items` names the same things. All of the file is
/// compared with them before anything changes. W of adapters anchored in place comes from the caller: if it was read
/// anew, call the adapter's anchor_again.
/// errors  file_error; format_error for a broken file; state_error naming what is missing, left over, or of another
///         type, shape or setting; nothing changes then
template <Backend B, class Items>
void load_checkpoint(B& be, std::filesystem::path const& path, Items const& items, checkpoint_options options = {}) {
  safetensors_file const file(path);
  format::compare_checkpoint(be, file, items, options);
  format::take_checkpoint(be, file, items, options);
}

}  // namespace loraga
