/* What runs in the test's containers: waits SECONDS, or until it is told to end. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void end(int signal) { _exit(signal == SIGTERM ? 0 : 1); }

int main(int argc, char **argv) {
    signal(SIGTERM, end); /* a container's first process has no default action */
    if (argc > 1)
        sleep((unsigned)atoi(argv[1]));
    else
        for (;;)
            pause();
    return 0;
}
