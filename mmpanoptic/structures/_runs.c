/* Passes over colours and maps by runs. runs.py says what they do, and does the same by NumPy. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHANNELS 3

typedef struct {
    int64_t *start;
    int32_t *value;
    size_t count, room;
} Runs;

static int grow(Runs *runs, size_t room) {
    int64_t *start = realloc(runs->start, room * sizeof *start);
    if (start) runs->start = start;
    int32_t *value = realloc(runs->value, room * sizeof *value);
    if (value) runs->value = value;
    if (!start || !value) return 0;
    runs->room = room;
    return 1;
}

static void add(Runs *runs, const uint8_t *pixel, size_t position) {
    runs->start[runs->count] = (int64_t)position;
    runs->value[runs->count++] = pixel[0] | pixel[1] << 8 | pixel[2] << 16;
}

static uint64_t load(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Whether eight pixels equal those one pixel before them. */
static int all_repeat(const uint8_t *bytes) {
    const uint8_t *before = bytes - CHANNELS;
    return !((load(bytes) ^ load(before)) | (load(bytes + 8) ^ load(before + 8)) |
             (load(bytes + 16) ^ load(before + 16)));
}

static int find(const uint8_t *bytes, size_t pixels, Runs *runs) {
    if (!pixels) return 1;
    if (!grow(runs, 4096)) return 0;
    add(runs, bytes, 0);
    for (size_t i = 1; i < pixels;) {
        const size_t end = i + 8 < pixels ? i + 8 : pixels;
        if (end == i + 8 && all_repeat(bytes + CHANNELS * i)) {
            i = end;
            continue;
        }
        if (runs->count + 8 > runs->room && !grow(runs, 2 * runs->room)) return 0;
        for (; i < end; ++i) {
            const uint8_t *pixel = bytes + CHANNELS * i;
            if (pixel[0] != pixel[-3] || pixel[1] != pixel[-2] || pixel[2] != pixel[-1])
                add(runs, pixel, i);
        }
    }
    return 1;
}

static PyObject *color_runs(PyObject *module, PyObject *colors) {
    Py_buffer view;
    PyObject *result = NULL;
    Runs runs = {NULL, NULL, 0, 0};
    (void)module;
    if (PyObject_GetBuffer(colors, &view, PyBUF_SIMPLE) < 0) return NULL;
    if (view.len % CHANNELS) {
        PyErr_SetString(PyExc_ValueError, "the buffer must hold three bytes for each pixel");
        goto done;
    }
    int enough;
    Py_BEGIN_ALLOW_THREADS
    enough = find(view.buf, (size_t)view.len / CHANNELS, &runs);
    Py_END_ALLOW_THREADS
    if (!enough) {
        PyErr_NoMemory();
        goto done;
    }
    PyObject *start = PyByteArray_FromStringAndSize(
        (char *)runs.start, (Py_ssize_t)(runs.count * sizeof *runs.start));
    PyObject *value = PyByteArray_FromStringAndSize(
        (char *)runs.value, (Py_ssize_t)(runs.count * sizeof *runs.value));
    if (start && value) result = PyTuple_Pack(2, start, value);
    Py_XDECREF(start);
    Py_XDECREF(value);
done:
    free(runs.start);
    free(runs.value);
    PyBuffer_Release(&view);
    return result;
}

/* Pixels of each pair of ids, in a table with open addressing; 0 marks a free place. */
typedef struct {
    uint64_t *key; /* 1 + first id + 2^24 second id */
    int64_t *pixels;
    size_t count, mask;
} Pairs;

static size_t place_of(const Pairs *pairs, uint64_t key) {
    size_t place = (size_t)((key * 0x9E3779B97F4A7C15u) >> 32) & pairs->mask;
    while (pairs->key[place] && pairs->key[place] != key) place = (place + 1) & pairs->mask;
    return place;
}

static int resize(Pairs *pairs, size_t room) {
    Pairs larger = {calloc(room, sizeof *larger.key), calloc(room, sizeof *larger.pixels),
                    pairs->count, room - 1};
    if (!larger.key || !larger.pixels) {
        free(larger.key);
        free(larger.pixels);
        return 0;
    }
    for (size_t i = 0; pairs->key && i <= pairs->mask; ++i) {
        if (!pairs->key[i]) continue;
        const size_t place = place_of(&larger, pairs->key[i]);
        larger.key[place] = pairs->key[i];
        larger.pixels[place] = pairs->pixels[i];
    }
    free(pairs->key);
    free(pairs->pixels);
    *pairs = larger;
    return 1;
}

static int count(Pairs *pairs, uint64_t key, size_t pixels) {
    if (2 * pairs->count > pairs->mask && !resize(pairs, 4 * (pairs->mask + 1))) return 0;
    const size_t place = place_of(pairs, key);
    pairs->count += !pairs->key[place];
    pairs->key[place] = key;
    pairs->pixels[place] += (int64_t)pixels;
    return 1;
}

static uint64_t key_at(const uint8_t *one, const uint8_t *two) {
    const uint64_t first = one[0] | one[1] << 8 | one[2] << 16;
    const uint64_t second = two[0] | two[1] << 8 | two[2] << 16;
    return 1 + (first | second << 24);
}

static int count_all(const uint8_t *one, const uint8_t *two, size_t pixels, Pairs *pairs) {
    if (!resize(pairs, 1024)) return 0;
    if (!pixels) return 1;
    uint64_t key = key_at(one, two);
    size_t start = 0;
    for (size_t i = 1; i < pixels;) {
        const size_t end = i + 8 < pixels ? i + 8 : pixels;
        if (end == i + 8 && all_repeat(one + CHANNELS * i) && all_repeat(two + CHANNELS * i)) {
            i = end;
            continue;
        }
        for (; i < end; ++i) {
            const uint64_t next = key_at(one + CHANNELS * i, two + CHANNELS * i);
            if (next == key) continue;
            if (!count(pairs, key, i - start)) return 0;
            key = next;
            start = i;
        }
    }
    return count(pairs, key, pixels - start);
}

static PyObject *list_pairs(const Pairs *pairs) {
    const Py_ssize_t found = (Py_ssize_t)pairs->count;
    PyObject *one = PyByteArray_FromStringAndSize(NULL, found * 4);
    PyObject *two = PyByteArray_FromStringAndSize(NULL, found * 4);
    PyObject *pixels = PyByteArray_FromStringAndSize(NULL, found * 8);
    PyObject *result = NULL;
    if (one && two && pixels) {
        size_t next = 0;
        for (size_t i = 0; i <= pairs->mask; ++i) {
            if (!pairs->key[i]) continue;
            const uint64_t ids = pairs->key[i] - 1;
            ((int32_t *)PyByteArray_AS_STRING(one))[next] = (int32_t)(ids & 0xFFFFFF);
            ((int32_t *)PyByteArray_AS_STRING(two))[next] = (int32_t)(ids >> 24);
            ((int64_t *)PyByteArray_AS_STRING(pixels))[next++] = pairs->pixels[i];
        }
        result = PyTuple_Pack(3, one, two, pixels);
    }
    Py_XDECREF(one);
    Py_XDECREF(two);
    Py_XDECREF(pixels);
    return result;
}

static PyObject *color_pairs(PyObject *module, PyObject *colors) {
    Py_buffer one, two;
    PyObject *result = NULL;
    Pairs pairs = {NULL, NULL, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(colors, "y*y*:color_pairs", &one, &two)) return NULL;
    if (one.len != two.len || one.len % CHANNELS) {
        PyErr_SetString(PyExc_ValueError,
                        "both buffers must hold three bytes for each of the same pixels");
    } else {
        int enough;
        Py_BEGIN_ALLOW_THREADS
        enough = count_all(one.buf, two.buf, (size_t)one.len / CHANNELS, &pairs);
        Py_END_ALLOW_THREADS
        result = enough ? list_pairs(&pairs) : PyErr_NoMemory();
    }
    free(pairs.key);
    free(pairs.pixels);
    PyBuffer_Release(&one);
    PyBuffer_Release(&two);
    return result;
}

/* Stretches of equal numbers inside the rows of maps of int32. */
static int find_in_rows(const int32_t *index, size_t pixels, size_t width, Runs *runs) {
    if (!grow(runs, 4096)) return 0;
    for (size_t row = 0; row < pixels; row += width) {
        if (runs->count + width > runs->room && !grow(runs, 2 * runs->room + width)) return 0;
        for (size_t i = row; i < row + width; ++i) {
            if (i > row && index[i] == index[i - 1]) continue;
            runs->start[runs->count] = (int64_t)i;
            runs->value[runs->count++] = index[i];
        }
    }
    return 1;
}

static PyObject *row_runs(PyObject *module, PyObject *arguments) {
    Py_buffer index;
    Py_ssize_t width;
    PyObject *result = NULL;
    Runs runs = {NULL, NULL, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*n:row_runs", &index, &width)) return NULL;
    if (width < 1 || index.len % (width * (Py_ssize_t)sizeof(int32_t))) {
        PyErr_SetString(PyExc_ValueError, "the buffer must hold whole rows of int32");
    } else {
        int enough;
        Py_BEGIN_ALLOW_THREADS
        enough = find_in_rows(index.buf, (size_t)index.len / sizeof(int32_t), (size_t)width, &runs);
        Py_END_ALLOW_THREADS
        if (enough)
            result = Py_BuildValue(
                "(NN)",
                PyByteArray_FromStringAndSize((char *)runs.start,
                                              (Py_ssize_t)(runs.count * sizeof *runs.start)),
                PyByteArray_FromStringAndSize((char *)runs.value,
                                              (Py_ssize_t)(runs.count * sizeof *runs.value)));
        else
            PyErr_NoMemory();
    }
    free(runs.start);
    free(runs.value);
    PyBuffer_Release(&index);
    return result;
}

#define PAINT(type)                                                      \
    for (size_t run = 0; run < count; ++run) {                           \
        const type value = ((const type *)values)[run];                  \
        const size_t end = (size_t)(run + 1 < count ? start[run + 1] : pixels); \
        type *restrict map = out;                                        \
        for (size_t i = (size_t)start[run]; i < end; ++i) map[i] = value; \
    }

static void paint(void *out, const int64_t *start, const void *values, size_t count, int64_t pixels,
                  size_t size) {
    if (size == 1) PAINT(uint8_t)
    else if (size == 4) PAINT(uint32_t)
    else PAINT(uint64_t)
}

/* Whether runs begin at 0, ascend, and lie inside a map. */
static int are_runs(const int64_t *start, size_t count, int64_t pixels) {
    if (!count) return !pixels;
    int good = !start[0] && start[count - 1] < pixels;
    for (size_t run = 1; run < count; ++run) good &= start[run] > start[run - 1];
    return good;
}

static PyObject *paint_runs(PyObject *module, PyObject *arguments) {
    Py_buffer out, start, values;
    Py_ssize_t size;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*y*y*n:paint_runs", &out, &start, &values, &size))
        return NULL;
    const size_t count = (size_t)start.len / sizeof(int64_t);
    if ((size != 1 && size != 4 && size != 8) || out.len % size ||
        values.len != (Py_ssize_t)count * size || !are_runs(start.buf, count, out.len / size)) {
        PyErr_SetString(PyExc_ValueError, "runs must ascend from 0 and have a value each");
    } else {
        Py_BEGIN_ALLOW_THREADS
        paint(out.buf, start.buf, values.buf, count, out.len / size, (size_t)size);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out);
    PyBuffer_Release(&start);
    PyBuffer_Release(&values);
    return result;
}

/* In double precision, and rounded once; NaN stands for runs that are 0. */
static void paint_ways(float *out, const int64_t *start, const double *goal, size_t count,
                       int64_t pixels, int64_t width) {
    for (size_t run = 0; run < count; ++run) {
        const int64_t end = run + 1 < count ? start[run + 1] : pixels;
        const int64_t row = start[run] / width * width;
        const double to = goal[run];
        if (to != to)
            memset(out + start[run], 0, (size_t)(end - start[run]) * sizeof *out);
        else
            for (int64_t i = start[run]; i < end; ++i) out[i] = (float)(to - (double)(i - row));
    }
}

static PyObject *paint_columns(PyObject *module, PyObject *arguments) {
    Py_buffer out, start, goal;
    Py_ssize_t width;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*y*y*n:paint_columns", &out, &start, &goal, &width))
        return NULL;
    const size_t count = (size_t)start.len / sizeof(int64_t);
    const int64_t pixels = out.len / (Py_ssize_t)sizeof(float);
    if (width < 1 || goal.len != (Py_ssize_t)(count * sizeof(double)) ||
        !are_runs(start.buf, count, pixels)) {
        PyErr_SetString(PyExc_ValueError, "runs must ascend from 0 and have a goal each");
    } else {
        Py_BEGIN_ALLOW_THREADS
        paint_ways(out.buf, start.buf, goal.buf, count, pixels, width);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out);
    PyBuffer_Release(&start);
    PyBuffer_Release(&goal);
    return result;
}

/* ---- filters of PNG rows, section 9 of the standard ---- */

static uint8_t paeth(int left, int up, int corner) {
    const int to_left = abs(up - corner), to_up = abs(left - corner);
    const int to_corner = abs(left + up - 2 * corner);
    if (to_left <= to_up && to_left <= to_corner) return (uint8_t)left;
    return (uint8_t)(to_up <= to_corner ? up : corner);
}

/* Whether eight pixels are 0. */
static int all_zero(const uint8_t *bytes) {
    return !(load(bytes) | load(bytes + 8) | load(bytes + 16));
}

static void fill(uint8_t *to, const uint8_t *pixel) {
    for (int i = 0; i < 8; ++i) memcpy(to + CHANNELS * i, pixel, CHANNELS);
}

/* Undo Sub (up is NULL) or Paeth. Where the differences of eight pixels are 0, and those above are
 * of one colour, all repeat the pixel before: maps are mostly that. */
static void undo_by_left(uint8_t *out, const uint8_t *in, const uint8_t *up, size_t size) {
    for (size_t i = 0; i < size; ++i) {
        while (i >= CHANNELS && i % CHANNELS == 0 && size - i >= 24 && all_zero(in + i) &&
               (!up || all_repeat(up + i))) {
            fill(out + i, out + i - CHANNELS);
            i += 24;
        }
        if (i == size) break;
        const int left = i < CHANNELS ? 0 : out[i - CHANNELS];
        const int corner = up && i >= CHANNELS ? up[i - CHANNELS] : 0;
        out[i] = (uint8_t)(in[i] + (up ? paeth(left, up[i], corner) : left));
    }
}

/* Row by row; `out` may lie below `in`, and `up` is the row before or zeros. */
static int undo_filter(uint8_t *out, const uint8_t *in, const uint8_t *up, size_t size) {
    const int filter = *in++;
    switch (filter) {
    case 0: memmove(out, in, size); return 1;
    case 1: undo_by_left(out, in, NULL, size); return 1;
    case 2:
        for (size_t i = 0; i < size; ++i) out[i] = (uint8_t)(in[i] + up[i]);
        return 1;
    case 3:
        for (size_t i = 0; i < size; ++i)
            out[i] = (uint8_t)(in[i] + ((i < CHANNELS ? 0 : out[i - CHANNELS]) + up[i]) / 2);
        return 1;
    case 4: undo_by_left(out, in, up, size); return 1;
    default: return 0;
    }
}

static PyObject *undo_filters(PyObject *module, PyObject *arguments) {
    Py_buffer rows;
    Py_ssize_t row;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "w*n:undo_filters", &rows, &row)) return NULL;
    PyObject *result = NULL;
    uint8_t *above = NULL;
    if (row < CHANNELS || row % CHANNELS || row >= rows.len || rows.len % (row + 1)) {
        PyErr_SetString(PyExc_ValueError, "a row is a filter and its pixels");
    } else if (!(above = calloc((size_t)row, 1))) {
        PyErr_NoMemory();
    } else {
        uint8_t *bytes = rows.buf;
        const size_t size = (size_t)row, height = (size_t)(rows.len / (row + 1));
        int good = 1;
        Py_BEGIN_ALLOW_THREADS
        for (size_t y = 0; good && y < height; ++y)
            good = undo_filter(bytes + y * size, bytes + y * (size + 1),
                               y ? bytes + (y - 1) * size : above, size);
        Py_END_ALLOW_THREADS
        result = PyBool_FromLong(good);
    }
    free(above);
    PyBuffer_Release(&rows);
    return result;
}

static PyMethodDef methods[] = {
    {"color_runs", color_runs, METH_O,
     "Find the runs of RGB pixels in a buffer: starts as int64 and ids as int32, two bytearrays."},
    {"color_pairs", color_pairs, METH_VARARGS,
     "Count the pixels of each pair of ids in two buffers: ids and ids as int32, pixels as int64."},
    {"row_runs", row_runs, METH_VARARGS,
     "Find the runs inside the rows of int32 maps of a width: starts as int64, values as int32."},
    {"paint_runs", paint_runs, METH_VARARGS,
     "Fill a map by runs: out, starts as int64, values, bytes of a value."},
    {"paint_columns", paint_columns, METH_VARARGS,
     "Fill a float32 map with goal - column: out, starts as int64, goals as float64, width."},
    {"undo_filters", undo_filters, METH_VARARGS,
     "Turn filtered rows of an RGB PNG into pixels, which then begin the buffer: rows, bytes of a "
     "row of pixels. False where a filter is unknown."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_runs", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__runs(void) { return PyModule_Create(&definition); }
