/*
 * secrets - keys of a store in this process: nobody reads them out of a core dump, or out of its
 * memory while it runs.
 */
#ifndef BACKEND_SECRETS_H
#define BACKEND_SECRETS_H

/*
 * To be called before the first byte of a secret is read. From then on, until it ends or executes
 * another program, the process leaves no core dump, wherever the system sends them, and other processes
 * of its user can neither trace it nor open its memory. It stays so when the secrets are gone: where
 * libraries copied them to, nobody knows.
 * Threads: any, any number of times.
 */
void secrets_hide(void);

#endif
