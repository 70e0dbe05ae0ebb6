/* A libnvidia-ml.so.1 whose joules are known.
 *
 * It stands at the driver's boundary: unmodified nvidia-ml-py, nvitop and nvitop-exporter run
 * against it. The state of the "hardware" lies in the memory-mapped file named by
 * FAKE_NVML_STATE, which library.py lays out alike and a test rewrites while programs run.
 *
 * Power is a waveform with a closed integral; the energy counter is that integral at the last
 * step of the counter, so a test knows the true joules at every instant of CLOCK_BOOTTIME.
 * Like the driver, the library keeps a file open per attached GPU ("<state>.gpu<N>").
 */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_GPUS 16
#define MAX_FIELDS 32
#define MAX_PROCESSES 64
#define MAX_MIG 8
#define MAX_LOADS 1024
#define MAGIC 0x4e564d4cu

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4,
    NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, UNKNOWN = 999
};

/* The families of calls into which a test injects errors and hangs. */
enum family {
    HANDLE, ENERGY, POWER, TEMPERATURE, UTILIZATION, CLOCKS, MEMORY, PROCESSES, LIMITS, MIG,
    FIELDS, INFO, FAMILIES
};

/* From `at_ns` on the GPU draws `watts` more than its waveform; `joules`: drawn so until then. */
struct load { int64_t at_ns; double watts, joules; };
/* A MIG device: a compute instance of a GPU instance, `sm_percent` busy. */
struct mig {
    char uuid[96], profile[32];
    uint32_t slices, compute_slices, memory_mb, gpu_instance, compute_instance, sm_percent;
};

struct gpu {
    char uuid[96], bus_id[32], name[96], serial[32];
    double base_w, amplitude_w, period_s;
    uint32_t square, step_ms;
    int64_t origin_ns;  /* boot time at which the counter was 0 */
    int64_t offset_mj;  /* added to the counter: a jump, or a reset to a known value */
    int64_t stopped_ns; /* boot time at which the counter stopped, 0 while it runs */
    uint32_t code[FAMILIES], hang[FAMILIES];
    uint32_t all_code, unsupported_count, unsupported[MAX_FIELDS];
    int32_t temperature_c, memory_temperature_c, margin_c;
    uint32_t gpu_percent, memory_percent, encoder_percent, decoder_percent;
    uint64_t memory_total, memory_used;
    uint32_t clock_mhz[4]; /* graphics, sm, memory, video */
    uint32_t limit_mw, limit_max_mw, architecture;
    uint64_t throttle_ns[5]; /* fields 74, 76, 269, 270, 271 */
    uint64_t event_reasons;
    uint32_t process_count, pid[MAX_PROCESSES], sm_percent[MAX_PROCESSES];
    uint32_t mig_mode, mig_count;
    struct mig mig[MAX_MIG];
    uint64_t calls;
    uint32_t load_count; /* grows after its load is written, so that no reader sees half of one */
    struct load load[MAX_LOADS];
    uint32_t minor, gpm;
    uint32_t unprivileged;           /* the list of the whole GPU hides what is on instances */
    uint32_t instance[MAX_PROCESSES]; /* 1 + index of the MIG device that a process is on */
    uint32_t mps[MAX_PROCESSES];      /* whether a process is a client of an MPS server */
};

struct state {
    uint32_t magic, gpu_count, generation, init_code, init_hang, reload_code, no_field_values, pad;
    int64_t now_ns; /* a test's own time, 0 for CLOCK_BOOTTIME */
    char driver[80];
    struct gpu gpu[MAX_GPUS];
};

typedef struct { uint32_t id, scope; int64_t timestamp, latency; uint32_t type, code;
                 union { double d; uint32_t ui; uint64_t ull; int64_t sll; } value; } FieldValue;
typedef struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } PciInfo;
typedef struct { uint32_t pid; uint64_t memory; uint32_t gpu_instance, compute_instance; } Process;
typedef struct { uint32_t pid; uint64_t at; uint32_t sm, memory, encoder, decoder; } ProcessUse;
typedef struct { uint32_t version; uint64_t total, reserved, free, used; } MemoryV2;
typedef struct { unsigned version, sensor; int celsius; } Temperature;
typedef struct { unsigned version; int celsius; } Margin;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { uint64_t total, free, used; } Memory;
typedef struct { unsigned counts[8]; uint64_t memory_mb; } Attributes;
typedef void *Device;

static struct state *shared;
static const char *shared_path;
static int attached[MAX_GPUS];
static int initialized; /* count of nvmlInit without its nvmlShutdown */
static uint32_t generation;

static int64_t clock_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void) { return shared->now_ns ? shared->now_ns : clock_ns(CLOCK_BOOTTIME); }

static void hang_while(const volatile uint32_t *flag) {
    const struct timespec pause = {0, 5000000};
    while (*flag) nanosleep(&pause, NULL);
}

/* ---- waveform ---- */

/* The load at a time in seconds since the origin, NULL while there is none yet. */
static const struct load *load_at(const struct gpu *g, double t) {
    for (uint32_t i = g->load_count; i > 0; i--)
        if ((double)(g->load[i - 1].at_ns - g->origin_ns) / 1e9 <= t) return &g->load[i - 1];
    return NULL;
}

static double load_w(const struct gpu *g, double t) {
    const struct load *load = load_at(g, t);
    return load ? load->watts : 0;
}

static double load_j(const struct gpu *g, double t) {
    const struct load *load = load_at(g, t);
    if (!load) return 0;
    return load->joules + load->watts * (t - (double)(load->at_ns - g->origin_ns) / 1e9);
}

static double wave_w(const struct gpu *g, double t) {
    if (g->period_s <= 0) return g->base_w;
    if (g->square) return g->base_w + (fmod(t, g->period_s) < g->period_s / 2 ? 1 : -1) * g->amplitude_w;
    return g->base_w + g->amplitude_w * sin(2 * M_PI * t / g->period_s);
}

static double wave_j(const struct gpu *g, double t) {
    double joules = g->base_w * t;
    if (g->period_s <= 0) return joules;
    if (g->square) {
        double phase = fmod(t, g->period_s);
        return joules + g->amplitude_w * (phase < g->period_s / 2 ? phase : g->period_s - phase);
    }
    return joules + g->amplitude_w * g->period_s / (2 * M_PI) * (1 - cos(2 * M_PI * t / g->period_s));
}

static double power_w(const struct gpu *g, double t) { return wave_w(g, t) + load_w(g, t); }

static double energy_j(const struct gpu *g, double t) { return wave_j(g, t) + load_j(g, t); }

/* Seconds since the counter's origin at its last step. */
static double stepped_s(const struct gpu *g, int64_t at_ns) {
    int64_t step = (int64_t)(g->step_ms ? g->step_ms : 1) * 1000000, run = at_ns - g->origin_ns;
    return (double)(run - run % step) / 1e9;
}

static uint64_t energy_mj(const struct gpu *g) {
    int64_t at = g->stopped_ns ? g->stopped_ns : now_ns();
    return (uint64_t)((int64_t)floor(energy_j(g, stepped_s(g, at)) * 1000) + g->offset_mj);
}

static uint32_t instant_mw(const struct gpu *g) {
    return (uint32_t)(power_w(g, stepped_s(g, now_ns())) * 1000);
}

static uint32_t average_mw(const struct gpu *g) {
    double t = stepped_s(g, now_ns());
    return (uint32_t)((energy_j(g, t) - energy_j(g, t - 1)) * 1000);
}

/* ---- life of the library ---- */

static int map_state(void) {
    if (shared) return OK;
    shared_path = getenv("FAKE_NVML_STATE");
    int fd = shared_path ? open(shared_path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return DRIVER_NOT_LOADED;
    void *at = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED || ((struct state *)at)->magic != MAGIC) return DRIVER_NOT_LOADED;
    shared = at;
    return OK;
}

static void attach(int index) {
    char path[4096];
    if (attached[index] > 0) return;
    snprintf(path, sizeof path, "%s.gpu%d", shared_path, index);
    attached[index] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

int nvmlInitWithFlags(unsigned flags) {
    int code = map_state();
    if (code) return code;
    hang_while(&shared->init_hang);
    if (shared->init_code) return (int)shared->init_code;
    initialized++;
    generation = shared->generation;
    for (uint32_t i = 0; !(flags & 2) && i < shared->gpu_count; i++)
        if (!shared->gpu[i].all_code) attach((int)i);
    return OK;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!initialized) return UNINITIALIZED;
    if (--initialized) return OK;
    for (int i = 0; i < MAX_GPUS; i++) {
        if (attached[i] > 0) close(attached[i]);
        attached[i] = 0;
    }
    return OK;
}

const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

static int text(char *out, unsigned size, const char *value) {
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return OK;
}

static int ready(void) {
    if (!initialized) return UNINITIALIZED;
    return generation == shared->generation ? OK : (int)shared->reload_code;
}

#define READY() do { int ready_ = ready(); if (ready_) return ready_; } while (0)

int nvmlSystemGetDriverVersion(char *out, unsigned size) { READY(); return text(out, size, shared->driver); }
int nvmlSystemGetNVMLVersion(char *out, unsigned size) { READY(); return text(out, size, "13.610.12"); }
int nvmlSystemGetCudaDriverVersion(int *out) { READY(); *out = 13000; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }
int nvmlDeviceGetCount_v2(unsigned *out) { READY(); *out = shared->gpu_count; return OK; }

/* ---- handles: generation, MIG instance + 1 and index + 1 in one pointer ---- */

static Device handle_of(unsigned index, unsigned mig) {
    return (Device)(uintptr_t)((uint64_t)generation << 32 | (uint64_t)mig << 8 | (index + 1));
}

static unsigned mig_of(Device d) { return (unsigned)((uintptr_t)d >> 8 & 0xff); }

static int look_up(Device d, enum family family, struct gpu **out) {
    uintptr_t bits = (uintptr_t)d;
    unsigned index = (unsigned)(bits & 0xff) - 1;
    READY();
    if ((uint32_t)(bits >> 32) != generation) return (int)shared->reload_code;
    if (index >= shared->gpu_count) return INVALID_ARGUMENT;
    struct gpu *g = &shared->gpu[index];
    __atomic_fetch_add(&g->calls, 1, __ATOMIC_RELAXED);
    hang_while(&g->hang[family]);
    if (g->all_code) return (int)g->all_code;
    *out = g;
    return (int)g->code[family];
}

#define LOOK_UP(device, family) \
    struct gpu *g = NULL; \
    do { int code_ = look_up(device, family, &g); if (code_) return code_; } while (0)

static int hand_out(unsigned index, Device *out) {
    struct gpu *g = &shared->gpu[index];
    hang_while(&g->hang[HANDLE]);
    if (g->all_code) return (int)g->all_code;
    if (g->code[HANDLE]) return (int)g->code[HANDLE];
    attach((int)index);
    *out = handle_of(index, 0);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *out) {
    READY();
    return index < shared->gpu_count ? hand_out(index, out) : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, Device *out) {
    READY();
    for (uint32_t i = 0; i < shared->gpu_count; i++)
        if (!strcasecmp(shared->gpu[i].bus_id, bus_id)) return hand_out(i, out);
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device *out) {
    READY();
    for (uint32_t i = 0; i < shared->gpu_count; i++) {
        struct gpu *g = &shared->gpu[i];
        if (!strcmp(g->uuid, uuid)) return hand_out(i, out);
        for (uint32_t m = 0; g->mig_mode && m < g->mig_count; m++)
            if (!strcmp(g->mig[m].uuid, uuid)) { *out = handle_of(i, m + 1); return OK; }
    }
    return NOT_FOUND;
}

/* ---- identity ---- */

int nvmlDeviceGetIndex(Device d, unsigned *out) {
    LOOK_UP(d, INFO);
    *out = mig_of(d) ? mig_of(d) - 1 : (unsigned)(g - shared->gpu);
    return OK;
}
int nvmlDeviceGetMinorNumber(Device d, unsigned *out) {
    LOOK_UP(d, INFO);
    *out = g->minor;
    return mig_of(d) ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetUUID(Device d, char *out, unsigned size) {
    LOOK_UP(d, INFO);
    return text(out, size, mig_of(d) ? g->mig[mig_of(d) - 1].uuid : g->uuid);
}
int nvmlDeviceGetName(Device d, char *out, unsigned size) {
    char name[160];
    LOOK_UP(d, INFO);
    if (!mig_of(d)) return text(out, size, g->name);
    snprintf(name, sizeof name, "%s MIG %s", g->name, g->mig[mig_of(d) - 1].profile);
    return text(out, size, name);
}
int nvmlDeviceGetSerial(Device d, char *out, unsigned size) {
    LOOK_UP(d, INFO);
    return g->serial[0] ? text(out, size, g->serial) : NOT_SUPPORTED;
}
int nvmlDeviceGetBoardPartNumber(Device d, char *out, unsigned size) {
    LOOK_UP(d, INFO);
    return text(out, size, "900-21010-0000-000");
}
int nvmlDeviceGetPciInfo_v3(Device d, PciInfo *out) {
    LOOK_UP(d, INFO);
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", g->bus_id);
    snprintf(out->legacy, sizeof out->legacy, "%.15s", g->bus_id + (strlen(g->bus_id) > 12 ? 4 : 0));
    return OK;
}
int nvmlDeviceGetArchitecture(Device d, unsigned *out) { LOOK_UP(d, INFO); *out = g->architecture; return OK; }
int nvmlDeviceGetCudaComputeCapability(Device d, int *major, int *minor) {
    LOOK_UP(d, INFO);
    *major = 9, *minor = 0;
    return OK;
}

/* ---- energy, power, heat ---- */

int nvmlDeviceGetTotalEnergyConsumption(Device d, unsigned long long *out) {
    LOOK_UP(d, ENERGY);
    *out = energy_mj(g);
    return OK;
}
int nvmlDeviceGetPowerUsage(Device d, unsigned *out) {
    LOOK_UP(d, POWER);
    *out = g->architecture >= 7 ? average_mw(g) : instant_mw(g);
    return OK;
}
int nvmlDeviceGetPowerManagementLimit(Device d, unsigned *out) { LOOK_UP(d, LIMITS); *out = g->limit_mw; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(Device d, unsigned *out) { LOOK_UP(d, LIMITS); *out = g->limit_mw; return OK; }
int nvmlDeviceGetPowerManagementLimitConstraints(Device d, unsigned *least, unsigned *most) {
    LOOK_UP(d, LIMITS);
    *least = 100000, *most = g->limit_max_mw;
    return OK;
}
int nvmlDeviceGetTemperature(Device d, unsigned sensor, unsigned *out) {
    LOOK_UP(d, TEMPERATURE);
    *out = (unsigned)g->temperature_c;
    return sensor ? INVALID_ARGUMENT : OK;
}
int nvmlDeviceGetTemperatureV(Device d, Temperature *out) {
    LOOK_UP(d, TEMPERATURE);
    out->celsius = g->temperature_c;
    return OK;
}
int nvmlDeviceGetMarginTemperature(Device d, Margin *out) {
    LOOK_UP(d, TEMPERATURE);
    out->celsius = g->margin_c;
    return OK;
}
int nvmlDeviceGetTemperatureThreshold(Device d, unsigned which, unsigned *out) {
    LOOK_UP(d, TEMPERATURE);
    *out = which == 0 ? 95 : 90;
    return OK;
}
int nvmlDeviceGetFanSpeed(Device d, unsigned *out) { LOOK_UP(d, INFO); *out = 0; return NOT_SUPPORTED; }

/* ---- activity ---- */

int nvmlDeviceGetUtilizationRates(Device d, Utilization *out) {
    LOOK_UP(d, UTILIZATION);
    if (g->mig_mode) return NOT_SUPPORTED;
    out->gpu = g->gpu_percent, out->memory = g->memory_percent;
    return OK;
}
int nvmlDeviceGetEncoderUtilization(Device d, unsigned *out, unsigned *period_us) {
    LOOK_UP(d, UTILIZATION);
    *out = g->encoder_percent, *period_us = 167000;
    return OK;
}
int nvmlDeviceGetDecoderUtilization(Device d, unsigned *out, unsigned *period_us) {
    LOOK_UP(d, UTILIZATION);
    *out = g->decoder_percent, *period_us = 167000;
    return OK;
}
int nvmlDeviceGetClockInfo(Device d, unsigned which, unsigned *out) {
    LOOK_UP(d, CLOCKS);
    if (which > 3) return INVALID_ARGUMENT;
    *out = g->clock_mhz[which];
    return OK;
}
int nvmlDeviceGetMaxClockInfo(Device d, unsigned which, unsigned *out) { return nvmlDeviceGetClockInfo(d, which, out); }
int nvmlDeviceGetCurrentClocksEventReasons(Device d, unsigned long long *out) {
    LOOK_UP(d, CLOCKS);
    *out = g->event_reasons;
    return OK;
}
int nvmlDeviceGetMemoryInfo(Device d, Memory *out) {
    LOOK_UP(d, MEMORY);
    out->total = g->memory_total, out->used = g->memory_used, out->free = g->memory_total - g->memory_used;
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(Device d, MemoryV2 *out) {
    LOOK_UP(d, MEMORY);
    out->total = g->memory_total, out->reserved = 0, out->used = g->memory_used;
    out->free = g->memory_total - g->memory_used;
    return OK;
}
int nvmlDeviceGetPcieThroughput(Device d, unsigned which, unsigned *out) {
    LOOK_UP(d, INFO);
    *out = 1000 * (which + 1);
    return OK;
}
int nvmlDeviceGetPerformanceState(Device d, unsigned *out) { LOOK_UP(d, INFO); *out = 0; return OK; }
int nvmlDeviceGetPersistenceMode(Device d, unsigned *out) { LOOK_UP(d, INFO); *out = 1; return OK; }
int nvmlDeviceGetComputeMode(Device d, unsigned *out) { LOOK_UP(d, INFO); *out = 0; return OK; }

/* What the tools ask and a data-centre GPU does not offer. */
#define NOT_OFFERED(name) int name(Device d) { LOOK_UP(d, INFO); return NOT_SUPPORTED; }
NOT_OFFERED(nvmlDeviceGetDisplayActive)
NOT_OFFERED(nvmlDeviceGetDisplayMode)
NOT_OFFERED(nvmlDeviceGetDriverModel)
NOT_OFFERED(nvmlDeviceGetDriverModel_v2)
NOT_OFFERED(nvmlDeviceGetTotalEccErrors)
NOT_OFFERED(nvmlDeviceGetBAR1MemoryInfo)

/* ---- processes ---- */

/* Whether a list names process `i`: clients of MPS and others are in lists of their own. */
static int lists(const struct gpu *g, Device d, unsigned i, unsigned mps) {
    if (g->mps[i] != mps) return 0;
    if (mig_of(d)) return g->instance[i] == mig_of(d);
    return !(g->mig_mode && g->unprivileged);
}

static int list_processes(Device d, unsigned *count, Process *out, unsigned mps) {
    LOOK_UP(d, PROCESSES);
    unsigned room = *count, found = 0;
    for (unsigned i = 0; i < g->process_count; i++) {
        if (!lists(g, d, i, mps)) continue;
        const struct mig *on = g->mig_mode && g->instance[i] ? &g->mig[g->instance[i] - 1] : NULL;
        if (out && found < room)
            out[found] = (Process){g->pid[i], 1 << 30, on ? on->gpu_instance : UINT32_MAX,
                                   on ? on->compute_instance : UINT32_MAX};
        found++;
    }
    *count = found;
    return found > (out ? room : 0) ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device d, unsigned *count, Process *out) {
    return list_processes(d, count, out, 0);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(Device d, unsigned *count, Process *out) {
    return list_processes(d, count, out, 1);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Device d, unsigned *count, Process *out) {
    LOOK_UP(d, PROCESSES);
    (void)out;
    *count = 0;
    return OK;
}
int nvmlDeviceGetProcessUtilization(Device d, ProcessUse *out, unsigned *count, unsigned long long since) {
    LOOK_UP(d, PROCESSES);
    (void)since;
    unsigned room = *count;
    *count = g->process_count;
    if (g->mig_mode) return NOT_SUPPORTED;
    if (!g->process_count) return NOT_FOUND;
    if (room < g->process_count || !out) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < g->process_count; i++)
        out[i] = (ProcessUse){g->pid[i], (uint64_t)clock_ns(CLOCK_REALTIME) / 1000, g->sm_percent[i], 0, 0, 0};
    return OK;
}

/* ---- MIG ---- */

int nvmlDeviceIsMigDeviceHandle(Device d, unsigned *out) { *out = mig_of(d) > 0; return OK; }
int nvmlDeviceGetMigMode(Device d, unsigned *current, unsigned *pending) {
    LOOK_UP(d, MIG);
    *current = *pending = g->mig_mode;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Device d, unsigned *out) { LOOK_UP(d, MIG); *out = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Device d, unsigned index, Device *out) {
    LOOK_UP(d, MIG);
    if (!g->mig_mode || index >= g->mig_count) return NOT_FOUND;
    *out = handle_of((unsigned)(g - shared->gpu), index + 1);
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device d, Device *out) {
    LOOK_UP(d, MIG);
    *out = handle_of((unsigned)(g - shared->gpu), 0);
    return OK;
}
int nvmlDeviceGetGpuInstanceId(Device d, unsigned *out) {
    LOOK_UP(d, MIG);
    if (!mig_of(d)) return NOT_SUPPORTED;
    *out = g->mig[mig_of(d) - 1].gpu_instance;
    return OK;
}
int nvmlDeviceGetComputeInstanceId(Device d, unsigned *out) {
    LOOK_UP(d, MIG);
    if (!mig_of(d)) return NOT_SUPPORTED;
    *out = g->mig[mig_of(d) - 1].compute_instance;
    return OK;
}
int nvmlDeviceGetAttributes_v2(Device d, Attributes *out) {
    LOOK_UP(d, MIG);
    if (!mig_of(d)) return NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    out->counts[6] = g->mig[mig_of(d) - 1].slices;
    out->counts[7] = g->mig[mig_of(d) - 1].compute_slices;
    out->memory_mb = g->mig[mig_of(d) - 1].memory_mb;
    return OK;
}

/* ---- GPM: how busy an instance was between two samples (here: what it is at the second) ---- */

typedef struct { int64_t at_ns; uint32_t percent; } Sample;
typedef struct { unsigned version, supported; } GpmSupport;
typedef struct {
    unsigned version, count;
    Sample *first, *second;
    struct { unsigned id; int code; double value; const char *info[3]; } metric[1];
} GpmMetrics;

int nvmlGpmQueryDeviceSupport(Device d, GpmSupport *out) { LOOK_UP(d, MIG); out->supported = g->gpm; return OK; }
int nvmlGpmSampleAlloc(Sample **out) { READY(); *out = calloc(1, sizeof **out); return OK; }
int nvmlGpmSampleFree(Sample *sample) { READY(); free(sample); return OK; }
int nvmlGpmMigSampleGet(Device d, unsigned gpu_instance, Sample *out) {
    LOOK_UP(d, MIG);
    if (!g->gpm) return NOT_SUPPORTED;
    for (uint32_t i = 0; i < g->mig_count; i++) {
        if (g->mig[i].gpu_instance != gpu_instance) continue;
        *out = (Sample){clock_ns(CLOCK_BOOTTIME), g->mig[i].sm_percent};
        return OK;
    }
    return NOT_FOUND;
}
int nvmlGpmMetricsGet(GpmMetrics *ask) {
    READY();
    if (ask->version != 1 || ask->count != 1 || ask->metric[0].id != 2) return INVALID_ARGUMENT;
    if (ask->second->at_ns - ask->first->at_ns < 100000000) return INVALID_ARGUMENT;
    ask->metric[0].value = ask->second->percent;
    ask->metric[0].code = OK;
    return OK;
}

/* ---- field values ---- */

enum { UINT = 1, ULONGLONG = 3 };

static int unsupported(const struct gpu *g, uint32_t id) {
    for (uint32_t i = 0; i < g->unsupported_count && i < MAX_FIELDS; i++)
        if (g->unsupported[i] == id) return 1;
    return 0;
}

static uint32_t answer(const struct gpu *g, FieldValue *v) {
    v->type = UINT;
    switch (v->id) {
    case 82: v->value.ui = (uint32_t)g->memory_temperature_c; return g->code[TEMPERATURE];
    case 83: v->type = ULONGLONG; v->value.ull = energy_mj(g); return g->code[ENERGY];
    case 185: v->value.ui = average_mw(g); return g->code[POWER];
    case 186: v->value.ui = instant_mw(g); return g->code[POWER];
    case 188: v->value.ui = g->limit_max_mw; return g->code[LIMITS];
    case 190: v->value.ui = g->limit_mw; return g->code[LIMITS];
    case 74: v->type = ULONGLONG; v->value.ull = g->throttle_ns[0]; return g->code[CLOCKS];
    case 76: v->type = ULONGLONG; v->value.ull = g->throttle_ns[1]; return g->code[CLOCKS];
    case 269: case 270: case 271:
        v->type = ULONGLONG; v->value.ull = g->throttle_ns[v->id - 267]; return g->code[CLOCKS];
    default: return NOT_SUPPORTED;
    }
}

int nvmlDeviceGetFieldValues(Device d, int count, FieldValue *values) {
    LOOK_UP(d, FIELDS);
    if (shared->no_field_values) return NOT_SUPPORTED;
    for (int i = 0; i < count; i++) {
        values[i].timestamp = clock_ns(CLOCK_REALTIME) / 1000;
        /* The module scope answers only on Grace superchips. */
        int foreign = values[i].scope > (strstr(g->name, "GH200") ? 1 : 0);
        values[i].code = foreign || unsupported(g, values[i].id) ? NOT_SUPPORTED : answer(g, &values[i]);
    }
    return OK;
}
