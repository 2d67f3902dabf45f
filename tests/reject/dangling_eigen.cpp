// A view of a temporary Eigen matrix would dangle.
// expect: would dangle
#include <loraga/cpu.hpp>

void f() {
  Eigen::MatrixXf m(3, 3);
#ifdef REJECT
  (void)loraga::view(Eigen::MatrixXf(3, 3));
#else
  (void)loraga::view(m);
#endif
}
