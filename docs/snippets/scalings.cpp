// shows classic_scaling, rank_stable_scaling, adalora_scaling, constant_scaling, Scaling
/// s for out, in and rank; an adapter asks once, when it is built.
inline double difference_of_scales(index_t out, index_t in, index_t rank) {
  double const lora = classic_scaling{.alpha = 16}.scale(out, in, rank);        // 16/r
  double const rslora = rank_stable_scaling{.alpha = 16}.scale(out, in, rank);  // 16/sqrt(r)
  double const ada = adalora_scaling{.alpha = 16}.scale(out, in, rank);         // 16/(r + 1e-5), as PEFT has it
  double const as_given = constant_scaling{.value = 2}.scale(out, in, rank);    // 2
  return rslora - lora + as_given - 2 + 0 * ada;
}
