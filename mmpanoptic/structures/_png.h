/* What _runs.c takes from _png.c. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Two decoded maps of one size; the pixels begin where the rooms do. */
typedef struct {
    uint8_t *room[2];
    size_t size[2], height, width;
} PngPair;

void png_prepare(void);
PyObject *png_colors(PyObject *module, PyObject *arguments);

/* Whether both files could be decoded; png_release follows in any case. With the GIL held. */
int png_pair(const Py_buffer files[2], PngPair *pair);
void png_release(PngPair *pair);
