/*
 * notify - tell the service manager that started this process how it goes: the protocol of
 * sd_notify(3), a datagram to the socket that NOTIFY_SOCKET names.
 */
#ifndef FS_NOTIFY_H
#define FS_NOTIFY_H

#include "common/base.h"

/*
 * Send lines like "READY=1\nSTATUS=mounted". Nobody who wants to know, and a manager that does not
 * take it, are no errors: units without Type=notify work, too.
 */
void notify_manager(const char *lines);

#endif
