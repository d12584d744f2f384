/* What _runs.c takes from _png.c. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

void png_prepare(void);
PyObject *png_colors(PyObject *module, PyObject *arguments);
