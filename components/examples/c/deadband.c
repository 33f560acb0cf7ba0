// A deadband in C: of the series named, a reading passes when it differs from the last one that passed by at least the
// band. All others pass as they came.
//
//   [component.deadband]
//   config = { series = "*/temperature", band = "0.5" }     # `*` at the begin of a name stands for anything
//
// State: the last value that passed, of each series: a version, then its number and value, as `deadband.js` writes them.
//
// There is no library under it: what a call is given, and what it gives back, lies in one arena, which is empty again when
// the gateway has taken the results (`cabi_post_…`). The shapes are those of the component model's canonical ABI.

#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define PROCESSOR "frond:telemetry/processor@0.1.1#"
#define STATE "frond:telemetry/state@0.1.1#"

// The largest batch has 8,192 rows of 32 bytes, 256 KiB, and its result is made in place; a state is 96 KiB. The rest is for
// the names of as many series, announced at once.
static _Alignas(16) uint8_t arena[2 << 20];
static size_t arena_used;

// Series by their number, which counts up. Those beyond pass as they come.
enum { SERIES_MAX = 8192 };
static struct { uint8_t watched, has_last; double last; } series[SERIES_MAX];

static char pattern[256] = "*";
static size_t pattern_bytes = 1;
static double band;

typedef struct { uint8_t *at; size_t bytes; } Text;
typedef struct { Text name, value; } Option;
typedef struct { uint32_t id; Text name, unit; void *labels; size_t label_count; } Series;
typedef struct { uint8_t failed; Text why; } Result;
typedef struct {
    uint32_t *series; size_t series_count;
    int64_t *times; size_t times_count;
    double *values; size_t values_count;
    uint32_t *integer_rows; size_t integer_rows_count;
    int64_t *integers; size_t integers_count;
} Batch;
typedef struct { uint8_t replaced; Batch batch; void *alarms; size_t alarm_count; } Output;

_Static_assert(sizeof(Option) == 16 && sizeof(Series) == 28 && sizeof(Result) == 12, "as the canonical ABI lays them out");
_Static_assert(sizeof(Batch) == 40 && sizeof(Output) == 52, "as the canonical ABI lays them out");

// Where the gateway puts arguments. Nothing is ever grown in place but the last piece, which is enough.
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes) {
    size_t at = (arena_used + align - 1) & ~(align - 1);
    if (bytes > sizeof arena - at) __builtin_trap();
    arena_used = at + bytes;
    uint8_t *new = arena + at;
    for (size_t n = 0; old && n < old_bytes && n < bytes; n++) new[n] = ((uint8_t *)old)[n];
    return new;
}

static void *take(size_t bytes) { return cabi_realloc(NULL, 0, 8, bytes); }

static Result *result(const char *why) {
    Result *result = take(sizeof *result);
    result->failed = why != NULL;
    result->why.at = (uint8_t *)why;
    for (result->why.bytes = 0; why && why[result->why.bytes];) result->why.bytes++;
    return result;
}

static int is(Text text, const char *word) {
    size_t n = 0;
    while (n < text.bytes && word[n] && text.at[n] == (uint8_t)word[n]) n++;
    return n == text.bytes && !word[n];
}

static int names(Text name) {
    size_t star = pattern[0] == '*', rest = pattern_bytes - star;
    if (name.bytes < rest || (!star && name.bytes != rest)) return 0;
    for (size_t n = 0; n < rest; n++)
        if (name.at[name.bytes - rest + n] != (uint8_t)pattern[star + n]) return 0;
    return 1;
}

// Digits with a point; 0 when it is no such number.
static double number(Text text) {
    double value = 0, place = 0;
    for (size_t n = 0; n < text.bytes; n++) {
        uint8_t c = text.at[n];
        if (c == '.' && place == 0) { place = 1; continue; }
        if (c < '0' || c > '9') return 0;
        value = value * 10 + (c - '0');
        place *= 10;
    }
    return place > 1 ? value / place : value;
}

EXPORT(PROCESSOR "configure")
Result *configure(Option *options, size_t count) {
    for (size_t n = 0; n < count; n++) {
        Text value = options[n].value;
        if (is(options[n].name, "band")) {
            band = number(value);
        } else if (is(options[n].name, "series")) {
            if (value.bytes == 0 || value.bytes > sizeof pattern) return result("option \"series\" has 1 to 256 bytes");
            for (pattern_bytes = 0; pattern_bytes < value.bytes; pattern_bytes++)
                pattern[pattern_bytes] = (char)value.at[pattern_bytes];
        } else {
            return result("an option is not known; known are series and band");
        }
    }
    return result(band > 0 ? NULL : "option \"band\" is a number above 0, such as \"0.5\"");
}

EXPORT(PROCESSOR "announce")
void announce(Series *announced, size_t count) {
    for (size_t n = 0; n < count; n++)
        if (announced[n].id < SERIES_MAX) series[announced[n].id].watched = (uint8_t)names(announced[n].name);
    arena_used = 0;
}

static int passes(uint32_t id, double value) {
    if (id >= SERIES_MAX || !series[id].watched) return 1;
    double change = value - series[id].last;
    if (series[id].has_last && change < band && -change < band) return 0;
    series[id].has_last = 1;
    series[id].last = value;
    return 1;
}

// The columns come as flat arguments. Rows that stay are moved up in them, whole numbers with their new place.
EXPORT(PROCESSOR "process")
Output *process(uint32_t *ids, size_t rows, int64_t *times, size_t times_count, double *values, size_t values_count,
                uint32_t *integer_rows, size_t integer_count, int64_t *integers, size_t integers_count) {
    size_t kept = 0, whole = 0, next = 0;
    for (size_t row = 0; row < rows; row++) {
        int is_whole = next < integer_count && integer_rows[next] == row;
        int stays = passes(ids[row], values[row]);
        if (stays && is_whole) {
            integer_rows[whole] = (uint32_t)kept;
            integers[whole++] = integers[next];
        }
        next += (size_t)is_whole;
        if (stays) {
            ids[kept] = ids[row];
            times[kept] = times[row];
            values[kept++] = values[row];
        }
    }
    (void)times_count, (void)values_count, (void)integers_count;
    Output *output = take(sizeof *output);
    output->replaced = kept != rows;
    output->batch = (Batch){ids, kept, times, kept, values, kept, integer_rows, whole, integers, whole};
    output->alarms = output;
    output->alarm_count = 0;
    return output;
}

static void put(uint8_t *to, const void *from, size_t bytes) {
    for (size_t n = 0; n < bytes; n++) to[n] = ((const uint8_t *)from)[n];
}

enum { VERSION = 1, ENTRY_BYTES = sizeof(uint32_t) + sizeof(double) };

EXPORT(STATE "snapshot")
Text *snapshot(void) {
    Text *text = take(sizeof *text);
    text->at = take(1 + SERIES_MAX * ENTRY_BYTES);
    text->at[0] = VERSION;
    text->bytes = 1;
    for (uint32_t id = 0; id < SERIES_MAX; id++) {
        if (!series[id].has_last) continue;
        put(text->at + text->bytes, &id, sizeof id);
        put(text->at + text->bytes + sizeof id, &series[id].last, sizeof(double));
        text->bytes += ENTRY_BYTES;
    }
    return text;
}

EXPORT(STATE "restore")
Result *restore(uint8_t *bytes, size_t count) {
    if (count == 0 || bytes[0] != VERSION || (count - 1) % ENTRY_BYTES) return result("it is no state of this version");
    for (size_t at = 1; at < count; at += ENTRY_BYTES) {
        uint32_t id;
        put((uint8_t *)&id, bytes + at, sizeof id);
        if (id >= SERIES_MAX) return result("it has a series that is beyond all numbers");
        put((uint8_t *)&series[id].last, bytes + at + sizeof id, sizeof(double));
        series[id].has_last = 1;
    }
    return result(NULL);
}

// The gateway has taken what a call gave back.
static void empty(void *given) {
    (void)given;
    arena_used = 0;
}
EXPORT("cabi_post_" PROCESSOR "configure") void after_configure(void *given) { empty(given); }
EXPORT("cabi_post_" PROCESSOR "process") void after_process(void *given) { empty(given); }
EXPORT("cabi_post_" STATE "snapshot") void after_snapshot(void *given) { empty(given); }
EXPORT("cabi_post_" STATE "restore") void after_restore(void *given) { empty(given); }
