#pragma once
#include <loraga/distributed/agreement.hpp>
#include <loraga/io/checkpoint.hpp>

// The state of a job of many ranks on a file system that all of them see: one file of what is the same on all ranks,
// and, where ranks hold anything of their own, one more for each. That file is written last and names the others, so
// that a job that is killed at any moment leaves the checkpoint before it whole.

namespace loraga {

namespace format {

/// The part of one rank, beside the file of all.
inline std::filesystem::path rank_part(std::filesystem::path const& path, std::uint64_t generation, int rank,
                                       int ranks) {
  auto part = path;
  part += ".g" + std::to_string(generation) + ".rank" + std::to_string(rank) + "-of-" + std::to_string(ranks);
  return part;
}

/// What the file of all says about parts: how many, and which.
struct rank_parts {
  int ranks = 0;
  std::uint64_t generation = 0;
  template <class C>
  void visit_state(C& c) {
    c("count", ranks);
    c("generation", generation);
  }
};

/// The parts that a file of all names; none where there is no file, or it is of one process.
inline rank_parts parts_of(std::filesystem::path const& path) {
  rank_parts found;
  if (!std::filesystem::exists(path)) return found;
  safetensors_file const file(path);
  if (!file.contains("ranks.count") || !file.contains("ranks.generation")) return found;
  auto const count = file["ranks.count"], generation = file["ranks.generation"];
  if (count.bytes.size() != sizeof found.ranks || generation.bytes.size() != sizeof found.generation) return found;
  found.ranks = load_element<int>(count.bytes.data());
  found.generation = load_element<std::uint64_t>(generation.bytes.data());
  return found;
}

/// The parts that lie beside a file of all, half-written ones too: f(path, generation, ranks, half).
template <class F>
void for_each_part(std::filesystem::path const& path, F const& f) {
  auto const folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  auto const lead = path.filename().string();
  std::error_code ignored;  // a folder that cannot be listed has no parts to look at
  for (auto const& entry : std::filesystem::directory_iterator(folder, ignored)) {
    auto const name = entry.path().filename().string();
    bool part = name.starts_with(lead);
    std::size_t at = lead.size();
    std::uint64_t numbers[3] = {};  // generation, rank, ranks
    char const* const words[] = {".g", ".rank", "-of-"};
    for (int i = 0; i < 3 && part; ++i) {
      auto const first = at + std::strlen(words[i]);
      auto const end = std::min(name.find_first_not_of("0123456789", std::min(first, name.size())), name.size());
      part = name.compare(at, first - at, words[i]) == 0 && end > first && end - first < 19;
      if (part) numbers[i] = std::stoull(name.substr(first, end - first));
      at = end;
    }
    bool const half = part && name.size() - at == 7 && name[at] == '.';  // an output_file's name before it is whole
    if (part && (at == name.size() || half)) f(entry.path(), numbers[0], numbers[2], half);
  }
}
/// Removes parts that the file of all does not name: of earlier checkpoints, or of one that was killed.
inline void remove_other_parts(std::filesystem::path const& path, rank_parts const& keep) {
  std::vector<std::filesystem::path> old;
  for_each_part(path, [&](auto const& part, std::uint64_t generation, std::uint64_t ranks, bool half) {
    if (half || generation != keep.generation || ranks != static_cast<std::uint64_t>(keep.ranks)) old.push_back(part);
  });
  std::error_code ignored;  // what cannot be removed is in nobody's way
  for (auto const& part : old) std::filesystem::remove(part, ignored);
}
/// A generation that no part beside the file has.
inline std::uint64_t next_generation(std::filesystem::path const& path) {
  std::uint64_t last = 0;
  for_each_part(path,
                [&](auto const&, std::uint64_t generation, std::uint64_t, bool) { last = std::max(last, generation); });
  return last + 1;
}
/// errors  state_error if a file that is to be loaded is not there
inline void require_file(std::filesystem::path const& path) {
  if (!std::filesystem::exists(path))
    raise<state_error>("load_rank_checkpoint", path.string(), "not there", "a file that all ranks see");
}

/// A line that is the same on ranks that see the same file.
inline std::string file_line(safetensors_file const& file) {
  std::uint64_t sum = 0;
  for (auto const& t : file.tensors()) {
    auto const bytes = file[t.name].bytes;
    sum = sum * 31 + loraga::detail::digest(bytes);
  }
  return file.path().string() + " with check sum " + std::to_string(sum) + "\n";
}

}  // namespace format

/// Writes what is the same on all ranks (adapters and optimisers that see averaged gradients, the order of the data): a
/// checkpoint like that of one process, which any number of ranks can go on from. Rank 0 writes it.
/// errors  rank_error, the same on every rank, if it cannot be written; the file before it is whole then
template <Backend B, Communicator<B> C, class Items>
void save_rank_checkpoint(B& be, C& comm, std::filesystem::path const& path, Items const& items) {
  together(be, comm, [&] {
    if (comm.rank() == 0) save_checkpoint(be, path, items);
  });
}

/// The same, and what each rank holds of its own (accumulators that are not combined yet), by `own`.
/// errors  rank_error, the same on every rank, if one of them cannot write; the checkpoint before it is whole then
template <Backend B, Communicator<B> C, class Items, class Own>
void save_rank_checkpoint(B& be, C& comm, std::filesystem::path const& path, Items const& items, Own const& own) {
  format::rank_parts parts;
  together(be, comm, [&] {
    if (comm.rank() == 0) parts.generation = format::next_generation(path);
  });
  auto const first =
      agree(be, comm, "save_rank_checkpoint", path.string() + "\n", detail::packed(std::vector{parts.generation}))[0];
  parts = {comm.size(), detail::unpacked<std::uint64_t>(first).at(0)};
  together(be, comm,
           [&] { save_checkpoint(be, format::rank_part(path, parts.generation, comm.rank(), comm.size()), own); });
  together(be, comm, [&] {
    if (comm.rank() != 0) return;
    for (int r = 0; r < comm.size(); ++r)
      if (auto const part = format::rank_part(path, parts.generation, r, comm.size()); !std::filesystem::exists(part))
        raise<state_error>("save_rank_checkpoint", part.string(), "not there for rank 0",
                           "written by its rank into a folder that all ranks see");
    save_checkpoint(be, path, [&](auto& c) {
      c("ranks", parts);
      items(c);
    });
    format::remove_other_parts(path, parts);
  });
}

/// Reads what is the same on all ranks, on any number of them.
/// errors  rank_error, the same on every rank, if one of them does not find it, finds another one or cannot use it;
///         nothing changes then
/// cost    reads the file twice: every rank sums up its bytes
template <Backend B, Communicator<B> C, class Items>
void load_rank_checkpoint(B& be, C& comm, std::filesystem::path const& path, Items const& items,
                          checkpoint_options options = {}) {
  together(be, comm, [&] {
    format::require_file(path);
    safetensors_file const file(path);
    together(be, comm, [&] { format::compare_checkpoint(be, file, items, options); });
    agree(be, comm, "load_rank_checkpoint", format::file_line(file));
    format::take_checkpoint(be, file, items, options);
  });
}

namespace detail {
/// What does not take parts of further ranks.
struct no_join {};
}  // namespace detail

/// The same, and what each rank held of its own. Another number of ranks than wrote it deals the parts out: rank r
/// takes part r into `own` (a rank beyond the last part takes none), and parts r + ranks, r + 2*ranks, ... by
/// join(read), which calls read(other) with the names of objects like its own, then merges them:
///   [&](auto const& read) { read([&](auto& c) { c("gradient", other); }); gradient.merge(be, other); }
/// errors  rank_error, the same on every rank; without `join` also for another number of ranks. Nothing changes then, but
///         where a further part does not fit what join reads it into
template <Backend B, Communicator<B> C, class Items, class Own, class Join>
requires(!std::is_same_v<Join, checkpoint_options>) void load_rank_checkpoint(B& be, C& comm,
                                                                              std::filesystem::path const& path,
                                                                              Items const& items, Own const& own,
                                                                              Join const& join,
                                                                              checkpoint_options options = {}) {
  together(be, comm, [&] {
    format::require_file(path);
    safetensors_file const file(path);
    auto parts = format::parts_of(path);
    if (parts.ranks == 0)
      raise<state_error>("load_rank_checkpoint(" + path.string() + ")", "the file", "one without parts of ranks",
                         "one that was saved with `own`; load it without");
    auto const all = [&](auto& c) {
      c("ranks", parts);
      items(c);
    };
    auto const part = [&](int rank) {
      auto const name = format::rank_part(path, parts.generation, rank, parts.ranks);
      format::require_file(name);
      return safetensors_file(name);
    };
    bool const mine = comm.rank() < parts.ranks;
    together(be, comm, [&] {
      format::compare_checkpoint(be, file, all, options);
      if constexpr (std::is_same_v<Join, detail::no_join>)
        if (parts.ranks != comm.size())
          raise<state_error>(
              "load_rank_checkpoint(" + path.string() + ")", "ranks", std::to_string(parts.ranks) + " in the file",
              std::to_string(comm.size()) +
                  ", or a `join` that merges parts (ranks that hold nothing of their own save without `own`)");
      if (mine) format::compare_checkpoint(be, part(comm.rank()), own, options);
      for (int r = comm.rank() + comm.size(); r < parts.ranks; r += comm.size())
        part(r);  // that they are there, and whole
    });
    agree(be, comm, "load_rank_checkpoint", format::file_line(file));
    format::take_checkpoint(be, file, all, options);
    if (mine) format::take_checkpoint(be, part(comm.rank()), own, options);
    if constexpr (!std::is_same_v<Join, detail::no_join>)
      for (int r = comm.rank() + comm.size(); r < parts.ranks; r += comm.size())
        join([&](auto const& other) {
          auto const theirs = part(r);
          format::compare_checkpoint(be, theirs, other, options);
          format::take_checkpoint(be, theirs, other, options);
        });
  });
}
/// The same without `join`.
template <Backend B, Communicator<B> C, class Items, class Own>
requires(!std::is_same_v<Own, checkpoint_options>) void load_rank_checkpoint(B& be, C& comm,
                                                                             std::filesystem::path const& path,
                                                                             Items const& items, Own const& own,
                                                                             checkpoint_options options = {}) {
  load_rank_checkpoint(be, comm, path, items, own, detail::no_join{}, options);
}

}  // namespace loraga
