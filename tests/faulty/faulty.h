/*
 * The program `vpool` with calls that fail: `vpool_faulty` is linked from copies of our libraries in
 * which calls of the C library (and of some others) are calls of calls.c. Of each it is known who made
 * it: its *path*, the name of the call and the first few return addresses within the program. The file
 * that VPOOL_FAULTY names says what to do, and is shared by all processes that have it in their
 * environment, so it outlives any of them and a fault happens once however many workers there are:
 *
 *	FAULTY_NOTE	each path that is reached is entered with the number of its calls
 *	FAULTY_FAIL	the calls number `hit` to `hit + times - 1` of one path fail
 *
 * Without that variable nothing fails. tests/faulty/faults.py makes the file and judges the result.
 */
#ifndef VPOOL_TESTS_FAULTY_H
#define VPOOL_TESTS_FAULTY_H

#include "common/base.h"

#define FAULTY_MAGIC	UINT64_C(0x0159544c55414656)
#define FAULTY_FRAMES	8u
#define FAULTY_ENTRIES	16384u
#define FAULTY_VARIANTS 4u

/* In place of an error: less is done than was asked for, or what is handed to the kernel is spoilt. */
#define FAULTY_SHORT 9001
#define FAULTY_SPOIL 9002

enum faulty_mode {
	FAULTY_NOTHING,
	FAULTY_NOTE,
	FAULTY_FAIL,
};

/* Read by faults.py, at these offsets. */
struct faulty_head {
	uint64_t magic;
	uint32_t mode;
	uint32_t frames; /* that tell one path from another */
	/* FAULTY_FAIL */
	uint64_t key;
	uint64_t hit; /* from 0 */
	uint32_t times;
	uint32_t variant; /* of the errors of that call */
	uint64_t hits;	  /* so far */
	uint32_t fired;
	uint32_t pid; /* of the process where it fired first */
	char name[24];
	uint64_t lost; /* paths that found no room */
};

struct faulty_entry {
	uint64_t key; /* 0: free */
	uint64_t hits;
	uint32_t frame_count;
	uint32_t variants;
	uint64_t frame[FAULTY_FRAMES]; /* offsets of return addresses, the innermost first */
	char name[24];
	char thread[16];
};

struct faulty_file {
	struct faulty_head head;
	struct faulty_entry entry[FAULTY_ENTRIES];
};

/* One call that can fail. */
struct faulty_call {
	const char *name;
	int error[FAULTY_VARIANTS + 1]; /* 0 ends them */
};

/*
 * True: this call, which returns to `from`, is to fail; errno says how (FAULTY_SHORT and FAULTY_SPOIL
 * are no errors). Else errno is as it was.
 */
bool faulty_now(const struct faulty_call *call, const void *from);

#endif
