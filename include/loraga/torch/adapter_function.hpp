#pragma once
#include <torch/csrc/autograd/custom_function.h>

#include <loraga/core/error.hpp>
#include <loraga/torch/view.hpp>

namespace loraga::libtorch::detail {

/// What stands in autograd's graph for a layer's adapter, behind the base's own operation, which it leaves alone. A and
/// B are inputs, so that a first layer, whose X needs no gradient, gets its backward; saved, so that autograd refuses a
/// backward after they were written. L is a layer (adapted_layer).
/// math    y + s*B*A*x, in y's memory
/// errors  state_error where the gradient itself is to be differentiated (create_graph)
template <class L>
struct adapter_function : torch::autograd::Function<adapter_function<L>> {
  using context = torch::autograd::AutogradContext;
  using tensors = torch::autograd::variable_list;

  static at::Tensor forward(context* c, at::Tensor const& x, at::Tensor const& y, at::Tensor const& a,
                            at::Tensor const& b, std::shared_ptr<L> const& layer) {
    auto const tape = c10::make_intrusive<typename L::tape>(layer);
    auto const input = layer->input(x), sum = layer->output(y, "Y");
    // an alias that autograd does not take for y; writing is told to those who saved y
    auto const result = sum.is_same(y) ? y.variable_data() : sum;
    layer->add(input, result, *tape);
    if (sum.is_same(y)) bump(y);
    c->save_for_backward({input, a, b});
    c->saved_data["tape"] = c10::IValue::make_capsule(tape);
    c->set_materialize_grads(false);
    return result;
  }

  static tensors backward(context* c, tensors gradients) {
    if (at::GradMode::is_enabled())
      raise<state_error>("an adapter's backward", "create_graph", "true",
                         "false: second derivatives through an adapter are not implemented");
    auto const saved = c->get_saved_variables();  // refuses what was written since, and a graph that is freed
    tensors result(5);
    if (!gradients[0].defined()) return result;
    auto const capsule = c->saved_data["tape"].toCapsule();
    auto& tape = static_cast<typename L::tape&>(*capsule);
    auto const dy = tape.layer().output(gradients[0], "dY");
    auto const [dx, da, db] = tape.layer().backward(saved[0], dy, tape, c->needs_input_grad(0));
    result[0] = dx;
    result[1] = gradients[0];
    result[2] = da;
    result[3] = db;
    return result;
  }
};

}  // namespace loraga::libtorch::detail
