/* Decoder of plain 8-bit RGB PNGs, for maps: long stretches of one colour are filled, not computed.
 *
 * It takes what is whole, and says no to everything else: the caller's general decoder reads
 * unusual files, and says what is wrong with broken ones. Sums of chunks are checked, that of the
 * zlib stream is not, as in that decoder. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_png.h"

enum { CHANNELS = 3, FAST = 10, LONGEST = 15, LITERALS = 288, DISTANCES = 32, MARGIN = 32 };

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint64_t load(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* ---- chunks ---- */

static uint32_t sums[256];

void png_prepare(void) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t sum = byte;
        for (int bit = 0; bit < 8; ++bit) sum = sum & 1 ? 0xEDB88320u ^ sum >> 1 : sum >> 1;
        sums[byte] = sum;
    }
}

static int is_sound(const uint8_t *kind, size_t size) {
    uint32_t sum = ~0u;
    for (size_t i = 0; i < size + 4; ++i) sum = sums[(sum ^ kind[i]) & 255] ^ sum >> 8;
    return ~sum == big_endian(kind + 4 + size);
}

/* Join the bodies of the IDATs; 0 unless the file is IHDR, IDATs, IEND, and the sums are right. */
static size_t join_data(const uint8_t *file, size_t size, uint8_t *out) {
    size_t at = 8, joined = 0;
    for (int number = 0; size - at >= 12; ++number) {
        const size_t length = big_endian(file + at);
        const uint8_t *kind = file + at + 4;
        if (length > size - at - 12) return 0;
        if (!memcmp(kind, "IEND", 4)) return joined;
        if (memcmp(kind, number ? "IDAT" : "IHDR", 4) || !is_sound(kind, length)) return 0;
        if (number) {
            memcpy(out + joined, kind + 4, length);
            joined += length;
        }
        at += 12 + length;
    }
    return 0;
}

/* ---- inflate, RFC 1951 ---- */

typedef struct {
    const uint8_t *next, *end;
    uint64_t bits;
    int count; /* of valid bits; below 0: more were taken than there are */
} Bits;

static void refill(Bits *in) {
    while (in->count <= 56 && in->next < in->end) {
        in->bits |= (uint64_t)*in->next++ << in->count;
        in->count += 8;
    }
}

static unsigned take(Bits *in, int count) {
    const unsigned value = (unsigned)(in->bits & ((1u << count) - 1));
    in->bits >>= count;
    in->count -= count;
    return value;
}

typedef struct {
    uint16_t fast[1 << FAST]; /* 16 symbol + length by the next bits; 0: a longer code */
    uint16_t of_length[LONGEST + 1], symbol[LITERALS];
} Code;

/* Only complete codes are taken. */
static int make_code(Code *code, const uint8_t *length, int symbols) {
    uint16_t place[LONGEST + 2] = {0};
    unsigned next[LONGEST + 2] = {0};
    int left = 1;
    memset(code, 0, sizeof *code);
    for (int i = 0; i < symbols; ++i) ++code->of_length[length[i]];
    code->of_length[0] = 0;
    for (int size = 1; size <= LONGEST; ++size) {
        left = 2 * left - code->of_length[size];
        if (left < 0) return 0;
        place[size + 1] = (uint16_t)(place[size] + code->of_length[size]);
        next[size + 1] = (next[size] + code->of_length[size]) << 1;
    }
    if (left) return 0;
    for (int i = 0; i < symbols; ++i) {
        const int size = length[i];
        if (!size) continue;
        code->symbol[place[size]++] = (uint16_t)i;
        unsigned word = next[size]++, reversed = 0;
        for (int bit = 0; bit < size; ++bit, word >>= 1) reversed = reversed << 1 | (word & 1);
        for (; size <= FAST && reversed < 1 << FAST; reversed += 1u << size)
            code->fast[reversed] = (uint16_t)(i << 4 | size);
    }
    return 1;
}

static int read_symbol(Bits *in, const Code *code) {
    const unsigned found = code->fast[in->bits & ((1 << FAST) - 1)];
    if (found) {
        take(in, found & 15);
        return (int)(found >> 4);
    }
    int word = 0, first = 0, place = 0;
    for (int size = 1; size <= LONGEST; ++size) {
        word |= (int)take(in, 1);
        const int here = code->of_length[size];
        if (word - first < here) return code->symbol[place + word - first];
        place += here;
        first = (first + here) << 1;
        word <<= 1;
    }
    return -1;
}

static int read_codes(Bits *in, Code *literal, Code *distance) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t length[LITERALS + DISTANCES] = {0};
    refill(in);
    const int literals = 257 + (int)take(in, 5), distances = 1 + (int)take(in, 5);
    const int lengths = 4 + (int)take(in, 4);
    if (literals > 286 || distances > 30) return 0;
    for (int i = 0; i < lengths; ++i) {
        refill(in);
        length[order[i]] = (uint8_t)take(in, 3);
    }
    if (in->count < 0 || !make_code(literal, length, 19)) return 0;
    memset(length, 0, sizeof length);
    for (int i = 0; i < literals + distances;) {
        refill(in);
        const int symbol = read_symbol(in, literal);
        if (symbol < 0 || (symbol == 16 && !i)) return 0;
        if (symbol < 16) {
            length[i++] = (uint8_t)symbol;
            continue;
        }
        const uint8_t value = symbol == 16 ? length[i - 1] : 0;
        const int times = symbol == 16   ? 3 + (int)take(in, 2)
                          : symbol == 17 ? 3 + (int)take(in, 3)
                                         : 11 + (int)take(in, 7);
        if (in->count < 0 || times > literals + distances - i) return 0;
        memset(length + i, value, (size_t)times);
        i += times;
    }
    return in->count >= 0 && length[256] && make_code(literal, length, literals) &&
           make_code(distance, length + literals, distances);
}

static int fixed_codes(Code *literal, Code *distance) {
    uint8_t length[LITERALS];
    memset(length, 8, 144);
    memset(length + 144, 9, 112);
    memset(length + 256, 7, 24);
    memset(length + 280, 8, 8);
    if (!make_code(literal, length, LITERALS)) return 0;
    memset(length, 5, DISTANCES);
    return make_code(distance, length, DISTANCES);
}

/* Repeat what lies `distance` bytes before; up to MARGIN bytes behind may be overwritten. */
static void copy_match(uint8_t *to, size_t distance, size_t length) {
    if (distance == 1) {
        memset(to, to[-1], length);
        return;
    }
    uint8_t *const end = to + length;
    if (distance < 16) {
        for (; to < end; ++to) *to = to[-(ptrdiff_t)distance];
        return;
    }
    for (; to < end; to += 16) memcpy(to, to - distance, 16);
}

typedef struct {
    uint8_t *start, *next, *end;
} Output;

static int inflate_block(Bits *in, Output *out, const Code *literal, const Code *distance) {
    static const uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,
                                             15, 17, 19, 23, 27, 31, 35, 43, 51,  59,
                                             67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t length_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                             2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t distance_base[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                               33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                               1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289,
                                               16385, 24577};
    for (;;) {
        refill(in);
        int symbol = read_symbol(in, literal);
        if (symbol < 0 || in->count < 0) return 0;
        if (symbol < 256) {
            if (out->next == out->end) return 0;
            *out->next++ = (uint8_t)symbol;
            continue;
        }
        if (symbol == 256) return 1;
        if (symbol > 285) return 0;
        symbol -= 257;
        const size_t length = length_base[symbol] + take(in, length_extra[symbol]);
        symbol = read_symbol(in, distance);
        if (symbol < 0 || symbol > 29) return 0;
        const size_t far = distance_base[symbol] + take(in, symbol < 2 ? 0 : symbol / 2 - 1);
        if (in->count < 0 || far > (size_t)(out->next - out->start) ||
            length > (size_t)(out->end - out->next))
            return 0;
        copy_match(out->next, far, length);
        out->next += length;
    }
}

static int copy_stored(Bits *in, Output *out) {
    take(in, in->count & 7);
    in->next -= in->count / 8; /* whole bytes go back */
    in->bits = 0;
    in->count = 0;
    if (in->end - in->next < 4) return 0;
    const size_t length = in->next[0] | (size_t)in->next[1] << 8;
    const size_t inverse = in->next[2] | (size_t)in->next[3] << 8;
    in->next += 4;
    if (length != (inverse ^ 0xFFFF) || length > (size_t)(in->end - in->next) ||
        length > (size_t)(out->end - out->next))
        return 0;
    memcpy(out->next, in->next, length);
    in->next += length;
    out->next += length;
    return 1;
}

/* Whether a zlib stream holds exactly `size` bytes, which are written; MARGIN bytes more may be. */
static int inflate_all(const uint8_t *data, size_t length, uint8_t *bytes, size_t size) {
    Code literal, distance;
    if (length < 2 || (data[0] & 15) != 8 || data[0] >> 4 > 7 || data[1] & 32 ||
        (data[0] << 8 | data[1]) % 31)
        return 0;
    Bits in = {data + 2, data + length, 0, 0};
    Output out = {bytes, bytes, bytes + size};
    for (int last = 0; !last;) {
        refill(&in);
        last = (int)take(&in, 1);
        const unsigned kind = take(&in, 2);
        if (in.count < 0 || kind == 3) return 0;
        if (kind ? !(kind == 1 ? fixed_codes(&literal, &distance)
                               : read_codes(&in, &literal, &distance)) ||
                       !inflate_block(&in, &out, &literal, &distance)
                 : !copy_stored(&in, &out))
            return 0;
    }
    return out.next == out.end;
}

/* ---- filters ---- */

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

/* Whether eight pixels equal the one before them. */
static int all_repeat(const uint8_t *bytes) {
    const uint8_t *before = bytes - CHANNELS;
    return !((load(bytes) ^ load(before)) | (load(bytes + 8) ^ load(before + 8)) |
             (load(bytes + 16) ^ load(before + 16)));
}

static void fill(uint8_t *to, const uint8_t *pixel) {
    for (int i = 0; i < 8; ++i) memcpy(to + CHANNELS * i, pixel, CHANNELS);
}

/* Undo Sub (up is NULL) or Paeth. Where the differences of eight pixels are 0, and those above are
 * of one colour, all repeat the pixel before. */
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

/* ---- both together ---- */

/* Memory that is kept for the next call, since fresh pages cost as much as decoding into them. */
static struct {
    uint8_t *bytes;
    size_t size;
} kept[4];
enum { KEPT = sizeof kept / sizeof *kept, LARGEST_KEPT = 1 << 26 };

/* Both with the GIL held. */
static uint8_t *take_room(size_t size, size_t *got) {
    for (int i = 0; i < KEPT; ++i) {
        if (kept[i].size < size) continue;
        uint8_t *bytes = kept[i].bytes;
        *got = kept[i].size;
        kept[i].size = 0;
        return bytes;
    }
    *got = size;
    return malloc(size);
}

static void give_room(uint8_t *bytes, size_t size) {
    int least = 0;
    for (int i = 1; i < KEPT; ++i)
        if (kept[i].size < kept[least].size) least = i;
    if (!bytes || size > LARGEST_KEPT || size <= kept[least].size) {
        free(bytes);
        return;
    }
    if (kept[least].size) free(kept[least].bytes);
    kept[least].bytes = bytes;
    kept[least].size = size;
}

typedef struct {
    size_t height, row; /* of bytes */
} Shape;

/* Whether a file may be one of ours: RGB of 8 bits without interlacing, of a size that it can hold. */
static int read_shape(const Py_buffer *file, Shape *shape) {
    static const uint8_t plain[5] = {8, 2, 0, 0, 0};
    const uint8_t *bytes = file->buf;
    if (file->len < 33 || memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) || big_endian(bytes + 8) != 13 ||
        memcmp(bytes + 24, plain, sizeof plain))
        return 0;
    const size_t width = big_endian(bytes + 16);
    shape->height = big_endian(bytes + 20);
    shape->row = CHANNELS * width;
    return width && shape->height && width <= 1 << 20 && shape->height <= (1 << 28) / width &&
           shape->height * shape->row / 1033 <= (size_t)file->len;
}

static size_t room_of(const Py_buffer *file, Shape shape) {
    return shape.height * (shape.row + 1) + MARGIN + shape.row + (size_t)file->len;
}

/* Decode to `pixels`, or to the start of the room if that is NULL: rows move down in it. */
static int decode(const Py_buffer *file, Shape shape, uint8_t *room, uint8_t *pixels) {
    const size_t filtered = shape.height * (shape.row + 1);
    uint8_t *above = room + filtered + MARGIN, *data = above + shape.row;
    const size_t length = join_data(file->buf, (size_t)file->len, data);
    if (!length || !inflate_all(data, length, room, filtered)) return 0;
    if (!pixels) pixels = room;
    memset(above, 0, shape.row);
    for (size_t y = 0; y < shape.height; ++y) {
        if (!undo_filter(pixels + y * shape.row, room + y * (shape.row + 1),
                         y ? pixels + (y - 1) * shape.row : above, shape.row))
            return 0;
    }
    return 1;
}

PyObject *png_colors(PyObject *module, PyObject *arguments) {
    Py_buffer file;
    Shape shape;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*:png_colors", &file)) return NULL;
    int good = read_shape(&file, &shape);
    if (good) {
        size_t size;
        uint8_t *room = take_room(room_of(&file, shape), &size);
        result = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(shape.height * shape.row));
        if (room && result) {
            uint8_t *pixels = (uint8_t *)PyByteArray_AS_STRING(result);
            Py_BEGIN_ALLOW_THREADS
            good = decode(&file, shape, room, pixels);
            Py_END_ALLOW_THREADS
        } else {
            Py_CLEAR(result);
            PyErr_NoMemory();
        }
        give_room(room, size);
    }
    if (!good) {
        Py_XDECREF(result);
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&file);
    return result;
}

int png_pair(const Py_buffer files[2], PngPair *pair) {
    Shape shape, other;
    pair->room[0] = pair->room[1] = NULL;
    pair->size[0] = pair->size[1] = 0;
    if (!read_shape(&files[0], &shape) || !read_shape(&files[1], &other) ||
        shape.height != other.height || shape.row != other.row)
        return 0;
    pair->height = shape.height;
    pair->width = shape.row / CHANNELS;
    for (int i = 0; i < 2; ++i) pair->room[i] = take_room(room_of(&files[i], shape), &pair->size[i]);
    int good = pair->room[0] && pair->room[1];
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < 2; ++i) good = good && decode(&files[i], shape, pair->room[i], NULL);
    Py_END_ALLOW_THREADS
    return good;
}

void png_release(PngPair *pair) {
    for (int i = 0; i < 2; ++i) give_room(pair->room[i], pair->size[i]);
}
