// shows adamw, adamw_group, add_adapter, cosine_schedule, constant_schedule, Schedule, clip_gradients
/// AdamW with a cosine schedule and LoRA+'s ratio, and gradients clipped to a joint norm.
inline double optimise(cpu& be, lora<float, cpu>& adapter) {
  adamw<float, cpu, cosine_schedule> optimiser(be, {.total = 100, .warmup = 3});
  add_adapter(be, optimiser, adapter, {.learning_rate = 1e-3, .weight_decay = 0}, 16);  // B at 16 times the rate

  adapter.zero_gradient(be);
  // ... forward and backward of your model ...
  matrix<double, cpu> norm(be, 1, 1);
  matrix_view<float, host_space> const gradients[] = {adapter.gradient()};
  clip_gradients(be, gradients, 1.0, norm.view());
  optimiser.step(be);
  return constant_schedule{}.factor(0) + read_scalar(be, norm.view());
}
