#include "../support/backend.hpp"
#include "self_check.hpp"

// Delayed work: what is used without a wait is wrong under some seed, what is waited for is right under all.

using namespace device_double::check;
using test::backend;

namespace {

/// How many of twenty seeds f(seed) calls good.
template <class F>
int good_seeds(F const& f) {
  auto const before = device_double::delayed_by();
  int good = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    device_double::delay(seed);
    good += f();
  }
  device_double::delay(before);
  return good;
}
#define LORAGA_RIGHT_UNDER_ALL(...) CHECK(good_seeds(__VA_ARGS__) == 20)
#define LORAGA_WRONG_UNDER_SOME(...) CHECK(good_seeds(__VA_ARGS__) < 20)

struct side_stream {
  cudaStream_t s = nullptr;
  explicit side_stream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&s, flags) == cudaSuccess);
  }
  ~side_stream() { cudaStreamDestroy(s); }
  side_stream(side_stream const&) = delete;
  operator cudaStream_t() const { return s; }
};
struct pinned_number {
  double* p = nullptr;
  explicit pinned_number(double x) {
    REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&p), sizeof(double)) == cudaSuccess);
    *p = x;
  }
  ~pinned_number() { cudaFreeHost(p); }
  pinned_number(pinned_number const&) = delete;
};
struct device_number {
  double* p = nullptr;
  explicit device_number(cudaStream_t s) {
    REQUIRE(cudaMallocAsync(reinterpret_cast<void**>(&p), sizeof(double), s) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(s) == cudaSuccess);
  }
  ~device_number() { cudaFree(p); }
  device_number(device_number const&) = delete;
};
struct marker {
  cudaEvent_t e = nullptr;
  marker() { REQUIRE(cudaEventCreateWithFlags(&e, cudaEventDefault) == cudaSuccess); }
  ~marker() { cudaEventDestroy(e); }
  marker(marker const&) = delete;
  operator cudaEvent_t() const { return e; }
};

struct assignment {
  double* to;
  double const* from;
  double more;
};
/// *to = *from + more, as work of a stream. `from` may be null.
void assign(cudaStream_t s, double* to, double const* from, double more) {
  auto const run = [](void* p) {
    std::unique_ptr<assignment> const a(static_cast<assignment*>(p));
    *a->to = (a->from ? *a->from : 0) + a->more;
  };
  REQUIRE(cudaLaunchHostFunc(s, run, new assignment{to, from, more}) == cudaSuccess);
}
void copy(cudaStream_t s, void* to, void const* from) {
  REQUIRE(cudaMemcpyAsync(to, from, sizeof(double), cudaMemcpyDefault, s) == cudaSuccess);
}
double read(cudaStream_t s, double const* from) {
  double x = 0;
  copy(s, &x, from);  // ordinary memory: waits
  return x;
}

}  // namespace

TEST_CASE("the host waits for copies to pinned memory", "[device_double]") {
  auto const finds = [](auto const& wait) {
    return [&] {
      side_stream const s;
      device_number const d(s);
      pinned_number const host(0);
      assign(s, d.p, nullptr, 7);
      copy(s, host.p, d.p);
      wait(s.s);
      return *host.p == 7;
    };
  };
  LORAGA_WRONG_UNDER_SOME(finds([](cudaStream_t) {}));
  LORAGA_RIGHT_UNDER_ALL(finds([](cudaStream_t s) { cudaStreamSynchronize(s); }));
  LORAGA_RIGHT_UNDER_ALL(finds([](cudaStream_t) { cudaDeviceSynchronize(); }));
  LORAGA_RIGHT_UNDER_ALL(finds([](cudaStream_t s) {
    while (cudaStreamQuery(s) == cudaErrorNotReady) (void)cudaGetLastError();
  }));
  LORAGA_RIGHT_UNDER_ALL(finds([](cudaStream_t s) {
    marker const done;
    cudaEventRecord(done, s);
    cudaEventSynchronize(done);
  }));
  LORAGA_WRONG_UNDER_SOME(finds([](cudaStream_t s) { cudaStreamSynchronize(s == nullptr ? s : nullptr); }));
}

TEST_CASE("pinned memory that is copied from stays as it is until then, other memory need not", "[device_double]") {
  auto const arrives = [](double* from) {
    side_stream const s;
    device_number const d(s);
    *from = 1;
    copy(s, d.p, from);
    *from = 2;
    return read(s, d.p) == 1;
  };
  pinned_number const host(0);
  double ordinary = 0;
  LORAGA_WRONG_UNDER_SOME([&] { return arrives(host.p); });
  LORAGA_RIGHT_UNDER_ALL([&] { return arrives(&ordinary); });
}

TEST_CASE("a stream waits for another by an event, before it reads and before it writes", "[device_double]") {
  auto const handed_over = [](bool before_reading, bool before_writing) {
    return [=] {
      side_stream const writer, reader;
      device_number const shared(writer), result(reader);
      marker const written, read_too;
      double sum = 0;
      for (int round = 1; round <= 3; ++round) {
        assign(writer, shared.p, nullptr, round);
        cudaEventRecord(written, writer);
        if (before_reading) cudaStreamWaitEvent(reader, written, 0);
        assign(reader, result.p, shared.p, 0);
        cudaEventRecord(read_too, reader);
        if (before_writing) cudaStreamWaitEvent(writer, read_too, 0);
        pinned_number const host(0);
        copy(reader, host.p, result.p);
        if (round == 2) cudaStreamSynchronize(writer);
        assign(reader, result.p, result.p, 0);
        if (before_reading && before_writing) cudaStreamSynchronize(reader);
        sum += read(reader, result.p);
      }
      return sum == 6;
    };
  };
  LORAGA_RIGHT_UNDER_ALL(handed_over(true, true));
  LORAGA_WRONG_UNDER_SOME(handed_over(false, true));
}

TEST_CASE("memory is not overwritten while another stream has yet to read it", "[device_double]") {
  auto const kept = [](bool waits) {
    return [=] {
      side_stream const writer, reader;
      device_number const shared(writer), result(reader);
      marker const done;
      assign(writer, shared.p, nullptr, 1);
      cudaStreamSynchronize(writer);
      assign(reader, result.p, shared.p, 0);
      cudaEventRecord(done, reader);
      if (waits) cudaStreamWaitEvent(writer, done, 0);
      assign(writer, shared.p, nullptr, 2);
      cudaStreamSynchronize(writer);
      return read(reader, result.p) == 1;
    };
  };
  LORAGA_WRONG_UNDER_SOME(kept(false));
  LORAGA_RIGHT_UNDER_ALL(kept(true));
}

TEST_CASE("the legacy stream takes turns with blocking streams alone", "[device_double]") {
  auto const ordered = [](unsigned flags, bool legacy_first) {
    return [=] {
      side_stream const other(flags);
      device_number const shared(nullptr), result(nullptr);
      cudaStream_t const first = legacy_first ? nullptr : other.s, second = legacy_first ? other.s : nullptr;
      assign(first, shared.p, nullptr, 5);
      assign(second, result.p, shared.p, 0);
      return read(second, result.p) == 5;
    };
  };
  for (bool const legacy_first : {false, true}) {
    LORAGA_RIGHT_UNDER_ALL(ordered(cudaStreamDefault, legacy_first));
    LORAGA_WRONG_UNDER_SOME(ordered(cudaStreamNonBlocking, legacy_first));
  }
}

TEST_CASE("an event counts from where it was recorded, and has a time once it has happened", "[device_double]") {
  LORAGA_RIGHT_UNDER_ALL([] {
    side_stream const s;
    device_number const d(s);
    pinned_number const early(0), late(0);
    marker const begin, end;
    float time = -1;
    cudaEventRecord(begin, s);
    assign(s, d.p, nullptr, 1);
    copy(s, early.p, d.p);
    cudaEventRecord(end, s);
    assign(s, d.p, nullptr, 2);
    copy(s, late.p, d.p);
    auto const at_first = cudaEventElapsedTime(&time, begin, end);
    cudaEventSynchronize(end);
    bool const good = *early.p == 1 && (at_first == cudaSuccess || at_first == cudaErrorNotReady) &&
                      cudaEventElapsedTime(&time, begin, end) == cudaSuccess && time >= 0;
    cudaStreamSynchronize(s);
    (void)cudaGetLastError();
    return good && *late.p == 2;
  });
}

TEST_CASE("freeing without a stream and destroying a stream lose no work", "[device_double]") {
  LORAGA_RIGHT_UNDER_ALL([] {
    pinned_number const host(0);
    {
      side_stream const s;
      device_number const d(s);  // freed first, which waits for the device
      assign(s, d.p, nullptr, 3);
      copy(s, host.p, d.p);
    }
    return *host.p == 3;
  });
  LORAGA_RIGHT_UNDER_ALL([] {
    pinned_number const host(0);
    {
      side_stream const s;
      assign(s, host.p, nullptr, 3);
    }
    cudaDeviceSynchronize();
    return *host.p == 3;
  });
}

TEST_CASE("memory that another stream frees too early is found when the work runs", "[device_double]") {
  auto const survives = [](bool waits) {
    return [=] {
      side_stream const owner, user;
      blas const handle;
      cublasSetStream(handle.h, user);
      double *a = nullptr, one = 1, zero = 0;
      REQUIRE(cudaMallocAsync(reinterpret_cast<void**>(&a), 16, owner) == cudaSuccess);
      cudaMemsetAsync(a, 0, 16, owner);
      cudaStreamSynchronize(owner);
      CHECK(cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a, CUDA_R_64F, 1, a, CUDA_R_64F, 1,
                            &zero, a + 1, CUDA_R_64F, 1, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT) == 0);
      if (waits) cudaStreamSynchronize(user);
      cudaFreeAsync(a, owner);
      cudaStreamSynchronize(owner);
      auto const found = cudaStreamSynchronize(user);
      CHECK((found == cudaSuccess || found == cudaErrorIllegalAddress));
      CHECK(cudaStreamSynchronize(owner) == found);  // it stays broken
      device_double::forget_requests();
      (void)cudaGetLastError();
      return found == cudaSuccess;
    };
  };
  LORAGA_WRONG_UNDER_SOME(survives(false));
  LORAGA_RIGHT_UNDER_ALL(survives(true));
}

TEST_CASE("what is newly allocated is no other stream's yet", "[device_double]") {
  auto const written = [](bool waits) {
    return [=] {
      side_stream const owner, user;
      double* a = nullptr;
      REQUIRE(cudaMallocAsync(reinterpret_cast<void**>(&a), 8, owner) == cudaSuccess);
      if (waits) cudaStreamSynchronize(owner);
      assign(user, a, nullptr, 4);
      cudaStreamSynchronize(user);
      double const found = read(owner, a);
      cudaFree(a);
      return found == 4;
    };
  };
  LORAGA_WRONG_UNDER_SOME(written(false));
  LORAGA_RIGHT_UNDER_ALL(written(true));
}

TEST_CASE("a kernel that fails is heard of at a wait, and the device stays broken", "[device_double]") {
  LORAGA_RIGHT_UNDER_ALL([] {
    side_stream const s;
    auto const fails = [](void*) { throw std::runtime_error("a kernel's assertion"); };
    REQUIRE(cudaLaunchHostFunc(s, fails, nullptr) == cudaSuccess);
    bool const heard = cudaStreamSynchronize(s) == cudaErrorLaunchFailure &&
                       cudaDeviceSynchronize() == cudaErrorLaunchFailure &&
                       cudaGetLastError() == cudaErrorLaunchFailure && cudaGetLastError() == cudaErrorLaunchFailure;
    device_double::forget_requests();
    return heard && cudaGetLastError() == cudaErrorLaunchFailure && cudaGetLastError() == cudaSuccess;
  });
}

TEST_CASE("a solver reads and writes its host memory when it runs", "[device_double]") {
  auto const untouched = [] {
    side_stream const s;
    solver const handle;
    cusolverDnSetStream(handle.h, s);
    std::size_t on_device = 0, on_host = 0;
    double* a = nullptr;
    REQUIRE(cudaMallocAsync(reinterpret_cast<void**>(&a), 800, s) == cudaSuccess);
    cudaMemsetAsync(a, 0, 800, s);
    REQUIRE(cusolverDnXsyevBatched_bufferSize(handle.h, handle.params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER,
                                              2, CUDA_R_64F, a, 2, CUDA_R_64F, a + 4, CUDA_R_64F, &on_device, &on_host,
                                              1) == 0);
    std::vector<char> work(on_host, 'x');
    REQUIRE(cusolverDnXsyevBatched(handle.h, handle.params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, 2,
                                   CUDA_R_64F, a, 2, CUDA_R_64F, a + 4, CUDA_R_64F, a + 8, on_device, work.data(),
                                   on_host, reinterpret_cast<int*>(a + 6), 1) == 0);
    bool const before = work[0] == 'x';
    cudaFree(a);
    CHECK(work[0] != 'x');
    return !before;
  };
  LORAGA_WRONG_UNDER_SOME(untouched);
}

TEST_CASE("lists that a kernel has yet to write are looked at when the product runs", "[device_double]") {
  auto const multiplied = [](bool writes_lists) {
    return [=] {
      side_stream const s;
      blas const handle;
      cublasSetStream(handle.h, s);
      double *a = nullptr, one = 1, zero = 0;
      REQUIRE(cudaMallocAsync(reinterpret_cast<void**>(&a), 64, s) == cudaSuccess);
      auto** const lists = reinterpret_cast<void**>(a + 4);
      auto const fill = [](void* p) {
        auto* const x = static_cast<double*>(p);
        auto** const l = reinterpret_cast<void**>(x + 4);
        x[0] = 3, x[1] = 5;
        l[0] = x, l[1] = x + 1, l[2] = x + 2;
      };
      if (writes_lists) REQUIRE(cudaLaunchHostFunc(s, fill, a) == cudaSuccess);
      REQUIRE(cublasGemmBatchedEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, lists, CUDA_R_64F, 1, lists + 1,
                                     CUDA_R_64F, 1, &zero, lists + 2, CUDA_R_64F, 1, 1, CUBLAS_COMPUTE_64F,
                                     CUBLAS_GEMM_DEFAULT) == 0);
      bool const ran = cudaStreamSynchronize(s) == cudaSuccess;
      device_double::forget_requests();
      (void)cudaGetLastError();
      bool const right = ran && read(s, a + 2) == 15;
      cudaFree(a);
      return right;
    };
  };
  LORAGA_RIGHT_UNDER_ALL(multiplied(true));
  LORAGA_WRONG_UNDER_SOME(multiplied(false));
}

TEST_CASE("a backend beside another needs the event between them", "[device_double]") {
  auto const handed_over = [](bool waits) {
    return [=] {
      backend be;
      auto const side = be.fork();
      backend::event filled;
      loraga::matrix<float, backend> x(be, 30, 1), y(*side, 30, 1);
      be.synchronize();
      side->synchronize();
      loraga::fill(be, x.view(), 1);
      be.record(filled);
      if (waits) side->wait(filled);
      side->copy(x.view(), y.view());
      return distance(test::download(*side, y.view()), host(30, 1, 1.0)) == 0;
    };
  };
  LORAGA_RIGHT_UNDER_ALL(handed_over(true));
  LORAGA_WRONG_UNDER_SOME(handed_over(false));
}
