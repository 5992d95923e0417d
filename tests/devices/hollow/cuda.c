/* A CUDA runtime without a GPU: memory is the host's, copies are memcpy, kernels do nothing. What is not here is made to return 0. */
#include <stdlib.h>
#include <string.h>

static int handle;

static int allocate(void **place, size_t size) {
    *place = aligned_alloc(256, (size + 255) / 256 * 256);
    return *place || !size ? 0 : 2;
}

int cudaMalloc(void **place, size_t size) { return allocate(place, size); }
int cudaMallocHost(void **place, size_t size) { return allocate(place, size); }
int cudaHostAlloc(void **place, size_t size, unsigned flags) { return allocate(place, size); }
int cudaMallocFromPoolAsync(void **place, size_t size, void *pool, void *stream) { return allocate(place, size); }
int cudaFree(void *place) { free(place); return 0; }
int cudaFreeHost(void *place) { free(place); return 0; }
int cudaFreeAsync(void *place, void *stream) { free(place); return 0; }
int cudaMemcpy(void *to, const void *from, size_t size, int kind) { memcpy(to, from, size); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) { memcpy(to, from, size); return 0; }
int cudaMemset(void *place, int value, size_t size) { memset(place, value, size); return 0; }
int cudaMemsetAsync(void *place, int value, size_t size, void *stream) { memset(place, value, size); return 0; }
int cudaMemGetInfo(size_t *free_bytes, size_t *all) { *free_bytes = *all = 8ull << 30; return 0; }

int cudaGetDevice(int *number) { *number = 0; return 0; }
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1; /* compute capability 9.0 */
    return 0;
}
int cudaGetDeviceProperties(char *properties, int device) { /* struct cudaDeviceProp of CUDA 13 */
    memset(properties, 0, 1032);
    strcpy(properties, "hollow");
    *(size_t *)(properties + 288) = 8ull << 30;   /* totalGlobalMem */
    *(size_t *)(properties + 296) = 48 << 10;     /* sharedMemPerBlock */
    *(int *)(properties + 304) = 65536;           /* regsPerBlock */
    *(int *)(properties + 308) = 32;              /* warpSize */
    *(int *)(properties + 320) = 1024;            /* maxThreadsPerBlock */
    *(int *)(properties + 336) = 0x7fffffff;      /* maxGridSize */
    *(int *)(properties + 340) = 65535;
    *(int *)(properties + 344) = 65535;
    *(int *)(properties + 360) = 9;               /* major */
    *(int *)(properties + 388) = 132;             /* multiProcessorCount */
    *(int *)(properties + 624) = 2048;            /* maxThreadsPerMultiProcessor */
    *(size_t *)(properties + 696) = 227 << 10;    /* sharedMemPerBlockOptin */
    return 0;
}
int cudaPointerGetAttributes(char *attributes, const void *place) {
    memset(attributes, 0, 24);
    *(int *)attributes = 2; /* cudaMemoryTypeDevice */
    return 0;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *kernel, int size, size_t shared, unsigned flags) {
    *count = 2;
    return 0;
}

int cudaStreamCreate(void **stream) { *stream = &handle; return 0; }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { *stream = &handle; return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaStreamEndCapture(void *stream, void **graph) { *graph = &handle; return 0; }
int cudaGraphInstantiate(void **ready, void *graph, unsigned long long flags) { *ready = &handle; return 0; }
int cudaEventCreate(void **event) { *event = &handle; return 0; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { *event = &handle; return 0; }
void *__cudaRegisterFatBinary(void *binary) { return &handle; }
