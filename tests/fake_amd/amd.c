/* A libamd_smi.so whose joules are known.
 *
 * It stands at the driver's boundary, below AMD's own Python binding of ROCm 7.0. The state of the
 * "hardware" lies in the memory-mapped file named by FAKE_AMD_STATE, which library.py lays out
 * alike and a test rewrites while programs run. What the binding looks up and is not here is
 * generated as a stub that is not supported.
 *
 * Power is constant, so the energy counter is an exact number of 2^-16 J at every instant of
 * CLOCK_BOOTTIME.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_GPUS 16
#define MAX_PROCESSES 64
#define MAX_PARTS 8
#define MAGIC 0x414d4447u

enum { OK = 0, INVAL = 1, NOT_SUPPORTED = 2, NOT_FOUND = 31, NOT_INIT = 32 };

/* The families of calls into which a test injects errors and hangs. */
enum family { HANDLE, ENERGY, POWER, TEMPERATURE, ACTIVITY, CLOCKS, MEMORY, PROCESSES, LIMITS,
              VIOLATIONS, INFO, FAMILIES };

struct gpu {
    char name[64], serial[32], gfx[16];
    uint32_t bus, device_id;
    uint64_t power_mw;
    int64_t origin_ns;   /* boot time at which the counter was 0 */
    int64_t offset;      /* added to the counter */
    int64_t stopped_ns;  /* boot time at which the counter stopped, 0 while it runs */
    uint32_t step_ms;
    uint32_t silent;     /* the second die of a pair, which counts nothing and tells no power */
    uint32_t powerless;  /* tells no power, and counts */
    uint32_t pad;
    float resolution_uj;
    uint32_t code[FAMILIES], hang[FAMILIES], all_code;
    int32_t celsius[3]; /* edge, hotspot, memory */
    uint32_t gfx_percent[MAX_PARTS], memory_percent;
    uint32_t mhz[3]; /* graphics, soc, memory */
    uint64_t memory_total, memory_used, cap_uw, cap_max_uw;
    uint64_t samples, violations[5]; /* prochot, ppt, socket, vr, hbm */
    uint32_t parts, process_count, pid[MAX_PROCESSES], part[MAX_PROCESSES];
    uint64_t calls;
};

struct state {
    uint32_t magic, gpu_count, generation, init_code, init_hang, reload_code;
    int64_t now_ns; /* a test's own time, 0 for CLOCK_BOOTTIME */
    char driver[64];
    struct gpu gpu[MAX_GPUS];
};

typedef void *Handle;
typedef struct { uint64_t function : 3, device : 5, bus : 8, domain : 48; } Bdf;
typedef struct { char market_name[256]; uint32_t vendor_id; char vendor_name[256];
                 uint32_t subvendor_id; uint64_t device_id; uint32_t rev_id; char asic_serial[256];
                 uint32_t oam_id, compute_units; uint64_t gfx; uint32_t subsystem_id, rest[21]; } Asic;
typedef struct { char model_number[256], product_serial[256], fru_id[256], product_name[256],
                 manufacturer_name[256]; uint64_t rest[64]; } Board;
typedef struct { char version[256], date[256], name[256]; } Driver;
typedef struct { uint64_t cap, standard, dpm, least, most, rest[3]; } Caps;
typedef struct { uint64_t socket; uint32_t current, average; uint64_t gfx, soc, memory;
                 uint32_t limit; uint64_t rest[18]; } Power;
typedef struct { uint32_t gfx, umc, mm, rest[13]; } Activity;
typedef struct { uint32_t clk, least, most; uint8_t locked, sleep; uint32_t rest[4]; } Clock;
typedef struct { char name[256]; uint32_t pid; uint64_t memory;
                 struct { uint64_t gfx, enc; uint32_t rest[12]; } use;
                 struct { uint64_t gtt, cpu, vram; uint32_t rest[10]; } held;
                 char container[256]; uint32_t occupancy, rest[11]; } Process;
typedef struct { uint64_t reference, timestamp, samples, violations[5]; uint64_t rest[1024]; } Violations;

static struct state *shared;
static int initialized;
static uint32_t generation;

static int64_t now_ns(void) {
    struct timespec t;
    if (shared->now_ns) return shared->now_ns;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void hang_while(const volatile uint32_t *flag) {
    const struct timespec pause = {0, 5000000};
    while (*flag) nanosleep(&pause, NULL);
}

/* The counter in 2^-16 J at its last step: mW x ns is 10^-12 J. */
static uint64_t count(const struct gpu *g) {
    int64_t step = (int64_t)(g->step_ms ? g->step_ms : 1) * 1000000;
    int64_t run = (g->stopped_ns ? g->stopped_ns : now_ns()) - g->origin_ns;
    run -= run % step;
    return (uint64_t)((__int128)g->power_mw * run * 65536 / 1000000000000) + (uint64_t)g->offset;
}

static int look_up(Handle handle, enum family family, struct gpu **out, unsigned *part) {
    uintptr_t bits = (uintptr_t)handle;
    unsigned index = (unsigned)(bits & 0xff) - 1;
    if (!initialized) return NOT_INIT;
    if (generation != shared->generation) return (int)shared->reload_code;
    if (index >= shared->gpu_count) return NOT_FOUND;
    struct gpu *g = &shared->gpu[index];
    __atomic_fetch_add(&g->calls, 1, __ATOMIC_RELAXED);
    hang_while(&g->hang[family]);
    if (g->all_code) return (int)g->all_code;
    *out = g, *part = (unsigned)(bits >> 8 & 0xff);
    return (int)g->code[family];
}

#define LOOK_UP(handle, family) \
    struct gpu *g = NULL; unsigned part = 0; \
    do { int code_ = look_up(handle, family, &g, &part); if (code_) return code_; } while (0); \
    (void)part

/* ---- life of the library ---- */

int amdsmi_init(uint64_t flags) {
    const char *path = getenv("FAKE_AMD_STATE");
    (void)flags;
    if (!shared) {
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        if (fd < 0) return 34;
        void *at = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (at == MAP_FAILED || ((struct state *)at)->magic != MAGIC) return 34;
        shared = at;
    }
    hang_while(&shared->init_hang);
    if (shared->init_code) return (int)shared->init_code;
    generation = shared->generation;
    initialized = 1;
    return OK;
}

int amdsmi_shut_down(void) { initialized = 0; return OK; }

int amdsmi_get_socket_handles(uint32_t *n, Handle *out) {
    if (!initialized) return NOT_INIT;
    for (uint32_t i = 0; out && i < *n && i < shared->gpu_count; i++) out[i] = (Handle)(uintptr_t)(i + 1);
    *n = shared->gpu_count;
    return OK;
}

int amdsmi_get_processor_handles(Handle socket, uint32_t *n, Handle *out) {
    struct gpu *g = &shared->gpu[(uintptr_t)socket - 1];
    uint32_t parts = g->parts ? g->parts : 1;
    hang_while(&g->hang[HANDLE]);
    for (uint32_t i = 0; out && i < *n && i < parts; i++)
        out[i] = (Handle)((uintptr_t)i << 8 | (uintptr_t)socket);
    *n = parts;
    return OK;
}

/* ---- identity ---- */

int amdsmi_get_gpu_device_bdf(Handle h, Bdf *out) {
    LOOK_UP(h, HANDLE);
    *out = (Bdf){.function = part, .bus = g->bus};
    return OK;
}
int amdsmi_get_gpu_asic_info(Handle h, Asic *out) {
    LOOK_UP(h, INFO);
    memset(out, 0, sizeof *out);
    snprintf(out->market_name, sizeof out->market_name, "%s", g->name);
    snprintf(out->asic_serial, sizeof out->asic_serial, "0x%x", g->bus);
    out->device_id = g->device_id, out->vendor_id = 0x1002, out->compute_units = 304;
    out->gfx = strtoul(g->gfx, NULL, 16);
    return OK;
}
int amdsmi_get_gpu_board_info(Handle h, Board *out) {
    LOOK_UP(h, INFO);
    memset(out, 0, sizeof *out);
    snprintf(out->product_serial, sizeof out->product_serial, "%s", g->serial);
    snprintf(out->model_number, sizeof out->model_number, "102-G30211-0C");
    return OK;
}
int amdsmi_get_gpu_driver_info(Handle h, Driver *out) {
    LOOK_UP(h, INFO);
    memset(out, 0, sizeof *out);
    snprintf(out->version, sizeof out->version, "%s", shared->driver);
    return OK;
}

/* ---- energy, power, heat ---- */

int amdsmi_get_energy_count(Handle h, uint64_t *out, float *resolution, uint64_t *at) {
    LOOK_UP(h, ENERGY);
    *out = g->silent ? 0 : count(g);
    *resolution = g->resolution_uj, *at = (uint64_t)now_ns();
    return OK;
}
int amdsmi_get_power_info(Handle h, Power *out) {
    LOOK_UP(h, POWER);
    memset(out, 0, sizeof *out);
    uint32_t watts = g->silent || g->powerless ? 0 : (uint32_t)(g->power_mw / 1000);
    out->socket = watts, out->current = watts, out->average = 0xffff;
    return OK;
}
int amdsmi_get_power_cap_info(Handle h, uint32_t sensor, Caps *out) {
    LOOK_UP(h, LIMITS);
    (void)sensor;
    *out = (Caps){.cap = g->silent ? 0 : g->cap_uw, .most = g->silent ? 0 : g->cap_max_uw};
    return OK;
}
int amdsmi_get_temp_metric(Handle h, uint32_t sensor, uint32_t metric, int64_t *out) {
    LOOK_UP(h, TEMPERATURE);
    if (sensor > 2 || metric) return INVAL;
    *out = g->celsius[sensor];
    return *out ? OK : NOT_SUPPORTED;
}

/* ---- activity ---- */

int amdsmi_get_gpu_activity(Handle h, Activity *out) {
    LOOK_UP(h, ACTIVITY);
    *out = (Activity){g->gfx_percent[part], g->memory_percent, 0xffff, {0}};
    return OK;
}
int amdsmi_get_clock_info(Handle h, uint32_t kind, Clock *out) {
    LOOK_UP(h, CLOCKS);
    int at = kind == 0 ? 0 : kind == 3 ? 1 : kind == 4 ? 2 : -1;
    if (at < 0) return INVAL;
    *out = (Clock){.clk = g->mhz[at]};
    return OK;
}
int amdsmi_get_gpu_memory_total(Handle h, uint32_t kind, uint64_t *out) {
    LOOK_UP(h, MEMORY);
    *out = g->memory_total;
    return kind ? INVAL : OK;
}
int amdsmi_get_gpu_memory_usage(Handle h, uint32_t kind, uint64_t *out) {
    LOOK_UP(h, MEMORY);
    *out = g->memory_used;
    return kind ? INVAL : OK;
}
int amdsmi_get_violation_status(Handle h, Violations *out) {
    LOOK_UP(h, VIOLATIONS);
    memset(out, 0xff, sizeof *out - sizeof out->rest);
    out->samples = g->samples;
    for (int i = 0; i < 5; i++) out->violations[i] = g->violations[i];
    return OK;
}
int amdsmi_get_gpu_process_list(Handle h, uint32_t *n, Process *out) {
    LOOK_UP(h, PROCESSES);
    uint32_t room = *n, found = 0;
    for (uint32_t i = 0; i < g->process_count; i++) {
        if (g->part[i] != part) continue;
        if (found < room) {
            memset(&out[found], 0, sizeof *out);
            snprintf(out[found].name, sizeof out[found].name, "train");
            out[found].pid = g->pid[i];
        }
        found++;
    }
    *n = found;
    return OK;
}
