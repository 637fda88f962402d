/*
 * sco_read - the index of a sealed SCO, read where it is: in its file, or on the backend.
 *
 * A SCO whose file was evicted, or that a restore knows by its manifest, is absent: what its row does
 * not tell stands in its footer, which is read when it is needed first.
 *
 * Memory: whatever a footer says, no more at a time than the file is long, and a block.
 */
#ifndef VOLUME_SCO_READ_H
#define VOLUME_SCO_READ_H

#include "volume/sco.h"

/* Where the bytes of a sealed SCO come from: a file that is in no table yet, or a SCO. */
struct sco_bytes {
	struct env *env;
	struct env_file *file; /* NULL: of the SCO */
	struct sco_table *scos;
	struct sco *sco; /* referenced by the caller */
};

static inline struct sco_bytes sco_bytes_of_file(struct env *env, struct env_file *file)
{
	return (struct sco_bytes){ .env = env, .file = file };
}

static inline struct sco_bytes sco_bytes_of(struct sco_table *scos, struct sco *s)
{
	return (struct sco_bytes){ .env = scos->env, .scos = scos, .sco = s };
}

/* Read and check the footer of a sealed SCO of that length. Wrong bytes of a SCO of which the backend
 * has a copy are read there once more; so in the two below. */
NODISCARD int sco_read_footer(const struct sco_bytes *b, uint64_t file_bytes,
			      struct sco_footer *ret_footer, struct err *e);

/* The header of a sealed SCO: its own, or -EUCLEAN. */
NODISCARD int sco_read_header(struct sco_table *t, struct sco *s, struct sco_header *ret_header,
			      struct err *e);

/*
 * The index that a footer describes, without the footer: what stands from its table on. A footer may
 * have survived a power cut without that.
 * Owns:     the caller, who frees *ret_index; aligned for direct writes.
 * Errors:   -EBADMSG it is not whole, and what reading gives.
 */
NODISCARD int sco_read_index(const struct sco_bytes *b, const struct sco_footer *footer,
			     uint8_t **ret_index, size_t *ret_len_bytes, struct err *e);

/* The log part of a sealed SCO: fn for each entry, in LSN order. */
NODISCARD int sco_read_log(const struct sco_bytes *b, const struct sco_footer *footer,
			   int (*fn)(void *arg, const struct log_entry *entry), void *arg,
			   struct err *e);

/*
 * Have in the SCO what only its footer tells: where the slot table is, salt, count of batches.
 * Errors:   -EUCLEAN the footer is of another SCO; as of sco_read_footer().
 * Threads:  any; the caller holds a reference. Free of I/O but for the first time.
 */
NODISCARD int sco_load_footer(struct sco_table *t, struct sco *s, struct err *e);

#endif
