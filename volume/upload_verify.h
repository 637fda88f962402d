/*
 * upload_verify - what is put is compared with the checksums of the SCO's index while it is read for
 * the put: what leaves may soon be the only copy.
 *
 * Looked at: every cluster, the slot table, the log and the footer; not the blocks that only a replay
 * of an open SCO reads. What a kernel copied is read once, from the copy. A hard link is not read: the
 * object is the file, which stays as long as it is one.
 */
#ifndef VOLUME_UPLOAD_VERIFY_H
#define VOLUME_UPLOAD_VERIFY_H

#include "backend/backend.h"
#include "volume/pool_impl.h"

struct upload_verify;

/*
 * Read the index of a sealed SCO and have the source's bytes looked at from here on.
 *
 * Owns:     *ret_verify, freed by upload_verify_free() (NULL: nothing), not before the put is over.
 * Errors:   -EBADMSG, -EUCLEAN the index is damaged; -ENOMEM, -EIO.
 */
NODISCARD int upload_verify_begin(struct pool *p, struct sco *s, struct backend_source *source,
				  struct upload_verify **ret_verify, struct err *e);
/* Whether a put failed for wrong bytes. */
bool upload_verify_failed(const struct upload_verify *v);
void upload_verify_free(struct upload_verify *v);

/* The same of a whole file in memory; -EBADMSG: it is damaged, and was refused. */
NODISCARD int upload_verify_bytes(struct pool *p, struct sco *s, const uint8_t *bytes,
				  struct err *e);

/* It does not travel: its file is damaged. Says so, once. Until the next start its stream keeps all it
 * has, here and on the backend, and nothing of it travels. */
void upload_refuse(struct pool *p, struct sco *s, const struct err *why);

#endif
