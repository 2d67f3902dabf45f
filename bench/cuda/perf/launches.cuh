#pragma once
// Counts kernel launches of this process. On a GPU through CUPTI, loaded only where it is found; on a host the double
// counts calls.
#include <functional>

#ifdef LORAGA_BENCH_ON_HOST
#include "device_double/device_double.hpp"
#elif __has_include(<cupti.h>)
#include <cupti.h>
#include <dlfcn.h>

#include <atomic>
#define LORAGA_BENCH_CUPTI
#endif

namespace perf {

#if defined(LORAGA_BENCH_ON_HOST)

inline double count_launches(std::function<void()> const& work) {
  auto const before = device_double::counted();
  work();
  return static_cast<double>((device_double::counted() - before).launches());
}

#elif defined(LORAGA_BENCH_CUPTI)

inline void CUPTIAPI note_call(void* total, CUpti_CallbackDomain, CUpti_CallbackId id, void const* data) {
  if (static_cast<CUpti_CallbackData const*>(data)->callbackSite != CUPTI_API_ENTER) return;
  switch (id) {
    case CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel:
    case CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz:
    case CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx:
    case CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz:
    case CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel:
    case CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel_ptsz:
      ++*static_cast<std::atomic<long>*>(total);
      break;
    default:
      break;
  }
}

inline double count_launches(std::function<void()> const& work) {
  void* library = nullptr;
  for (char const* name : {"libcupti.so.13", "libcupti.so.12", "libcupti.so"})
    if (library == nullptr) library = dlopen(name, RTLD_NOW);
  auto const find = [&](auto* type, char const* name) {
    return library == nullptr ? nullptr : reinterpret_cast<decltype(type)>(dlsym(library, name));
  };
  auto* const subscribe = find(&cuptiSubscribe, "cuptiSubscribe");
  auto* const enable = find(&cuptiEnableDomain, "cuptiEnableDomain");
  auto* const unsubscribe = find(&cuptiUnsubscribe, "cuptiUnsubscribe");
  static std::atomic<long> total;  // the callback may come once more after the end
  CUpti_SubscriberHandle who{};
  bool const on = subscribe && enable && unsubscribe && subscribe(&who, note_call, &total) == CUPTI_SUCCESS &&
                  enable(1, who, CUPTI_CB_DOMAIN_DRIVER_API) == CUPTI_SUCCESS;
  long const before = total;
  work();
  long const after = total;
  if (on) unsubscribe(who);
  return on ? static_cast<double>(after - before) : -1;
}

#else

inline double count_launches(std::function<void()> const& work) {
  work();
  return -1;
}

#endif

}  // namespace perf
