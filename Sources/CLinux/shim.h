#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/socket.h>

// accept4 is hidden without _GNU_SOURCE, which a module cannot set after the fact.
extern int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
