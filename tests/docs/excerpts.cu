// Blocks of docs/gpu.md that need something around them to compile; docs/site/check.py compares the lines.
#include <loraga/cuda.cuh>

void three_backends(cudaStream_t stream, cublasHandle_t cublas, cusolverDnHandle_t cusolver) {
  loraga::cuda own;                            // a stream and handles of its own
  loraga::cuda mine(stream);                   // your stream; handles of its own
  loraga::cuda all(stream, cublas, cusolver);  // all yours
  own.synchronize(), mine.synchronize(), all.synchronize();
}

template <class Step>
cudaGraphExec_t step_as_a_graph(cudaStream_t stream, Step const& step) {
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  step();  // forward, loss, zero_gradients, backward, optimiser.step(be, 1.0, norm)
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&replay, graph, 0);  // then cudaGraphLaunch(replay, stream) is one more step
  return replay;
}
template cudaGraphExec_t step_as_a_graph(cudaStream_t, void (*const&)());
