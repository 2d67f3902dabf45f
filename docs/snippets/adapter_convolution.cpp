// shows convolution, convolution_options, convolution_geometry, image_view, nchw
/// LoRA-GA for a 3x3 convolution on images as PyTorch has them. w is out x channels x 3 x 3.
inline double adapt_convolution(cpu& be, float* w, float const* x, float* y, float const* dy, index_t images,
                                index_t channels, index_t out, index_t height, index_t width) {
  convolution_geometry const g{channels, {.kernel = 3, .padding = 1}, {.kernel = 3, .padding = 1}};
  auto W = row_major(w, out, g.in());  // the weight's memory as a matrix
  auto const X = nchw(x, images, channels, height, width), dY = nchw(dy, images, out, height, width);
  auto const Y = nchw(y, images, out, height, width);  // holds the base convolution of X

  convolution<lora<float, cpu>, cpu> layer(g, {be, out, g.in(), 4, rank_stable_scaling{.alpha = 8}});
  dense_gradient<cpu> G(be, out, g.in());
  layer.add_gradient(be, G, dY, X);  // from your own backward's dY
  initialise(be, layer.adapter(), lora_ga_init{}, W, G, in_place_anchor{});

  convolution<lora<float, cpu>, cpu>::tape tape;
  layer.forward(be, W, X, Y, tape);
  (void)layer.backward(be, W, X, dY, tape);
  layer.forward(be, W, X, Y);    // to evaluate
  layer.adapter().merge(be, W);  // W is a convolution's weight again
  return layer.adapter().scale();
}
