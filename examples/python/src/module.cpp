#include <nanobind/stl/string.h>

#include "arrays.hpp"

// The module: errors of the library as Python's, and what the other files add.

namespace python {

namespace {

void translate(std::exception_ptr const& p, void*) {
  try {
    std::rethrow_exception(p);
  } catch (type_refused const& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (file_error const& e) {  // with errno, so that it is a FileNotFoundError, a FileExistsError ...
    nb::object const arguments = nb::make_tuple(e.code, e.what());
    PyErr_SetObject(PyExc_OSError, arguments.ptr());
  } catch (backend_error const& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (error const& e) {  // shapes, numbers, states, formats
    PyErr_SetString(PyExc_ValueError, e.what());
  }
}

}  // namespace

}  // namespace python

NB_MODULE(_loraga, m) {
  using namespace python;
  m.doc() = "loraga's C++: what the package loraga is made of.";
  m.attr("version") = LORAGA_PYTHON_VERSION;
  nb::register_exception_translator(translate);
  m.def("threads", &threads, "How many threads a call uses: one per core unless set_threads said otherwise.");
  m.def("set_threads", &set_threads, nb::arg("n"), "Sets how many threads a call uses. Results do not depend on it.");
  add_svd(m);
  add_estimates(m);
  add_starts(m);
  add_diagnostics(m);
  add_files(m);
}
