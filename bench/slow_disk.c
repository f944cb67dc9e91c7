/* A disk whose syncs take 50 ms: loaded into a service with LD_PRELOAD, it delays fsync and fdatasync. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int delayed(const char *name, int descriptor)
{
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct timespec wait = {0, 50 * 1000 * 1000};
    nanosleep(&wait, 0);
    return sync(descriptor);
}

int fsync(int descriptor) { return delayed("fsync", descriptor); }
int fdatasync(int descriptor) { return delayed("fdatasync", descriptor); }
