/*
 * backend_swift_claim - of several clients that put one name if it is absent, at most one succeeds.
 *
 * Swift's "If-None-Match: *" alone does not do that. The object server looks for the name, then
 * receives and stores the object: whoever is looked for before the first one is done is told 201
 * (measured: of 8 at once, up to 8), and what stays is the object with the latest timestamp, which
 * the proxy gave to the request when it arrived. And while an object is replaced, its server may
 * find none for a moment: the file that it found in the directory is gone when it opens it. Hence
 * the protocol, with S for SWIFT_SETTLE_NS:
 *
 *   1. look, twice: the name is absent.
 *   2. put, on condition that it is absent; done within S of the begin of 1.
 *   3. wait S.
 *   4. look: the object is ours.
 *   5. put it again, without condition; done within S of the begin of 4.
 *
 * Who finds the name taken, or some other object, or himself too slow, has lost.
 *
 * Proof. Let I and J both come to the end, and I be the first to look in step 4. J sees his own
 * object later, so his first put was done after I's look: had it been done before, either I would
 * have seen it, or it has the earlier timestamp and stays hidden behind I's. Then J's step 1, less
 * than S before that, was after I's first put, which was S before I's look: it found an object, and
 * J has lost. Step 5 makes the object that stays the winner's, whatever was put before it.
 *
 * What is left. J's two looks and his condition may each meet the moment of another replacement,
 * which are at most as many as there are puts of step 5. And a put of J whose answer was lost, which
 * he repeated with success, may be carried out after I's look. Both take a store that stalls and
 * two clients at the same moment.
 *
 * A put of unknown end may hide the winner's object later: who lost must not try again under this
 * name, and is told -EEXIST. The winner is who was told so, whatever the object says.
 *
 * It holds while the clocks of the proxies agree to better than S and a look reaches a copy that each
 * put reached (X-Newest asks all of them), as one cluster in good health gives. A cluster that is cut
 * in two can't keep any such promise.
 */
#include "backend/backend_swift.h"

#include "common/thread.h"

#include <string.h>

#define PUTS_MAX 8u

enum look {
	LOOK_ABSENT,
	LOOK_OURS,
	LOOK_OTHER,
};

static int uncertain(const char *name, struct err *e)
{
	return err_set(e, -EEXIST,
		       "'%s': another client may have it: the store is too slow or too troubled to "
		       "tell",
		       name);
}

/* Whose object is there? */
static int look(struct store_swift *s, const char *name, const char *md5, enum look *ret_look,
		struct err *e)
{
	static const struct http_header newest = { "X-Newest", "true" };
	const struct swift_request request = {
		.method = "HEAD", .name = name, .headers = &newest, .header_count = 1
	};
	struct http_answer answer = { .status = 0 };
	int r = swift_perform(s, &request, &answer, e);

	if (r == 0 && answer.status == 404) {
		*ret_look = LOOK_ABSENT;
	} else if (r == 0 && !swift_is_success(&answer)) {
		r = swift_status_error(s, &answer, "examining", name, e);
	} else if (r == 0) {
		const char *etag = http_answer_header(&answer, "etag");

		if (etag && *etag == '"')
			etag++;
		*ret_look = etag && strncmp(etag, md5, strlen(md5)) == 0 ? LOOK_OURS : LOOK_OTHER;
	}
	http_answer_done(&answer);
	return r;
}

/* Was a put with this end surely not carried out? */
static bool is_refusal(int r, int status)
{
	switch (status) {
	case 404:
	case 412:
	case 422:
	case 429:
	case 498:
		return true;
	default:
		/* Also no answer at all may come from a store that stored it. */
		return !err_is_retryable(r);
	}
}

/*
 * A put that failed: 0 it was carried out all the same, 1 it was not so far. That another look
 * sees it is as good as the answer: the caller checks that all was in time.
 */
static int settle_put(struct store_swift *s, const char *name, const char *md5, struct err *e)
{
	enum look seen = LOOK_ABSENT;
	int r = look(s, name, md5, &seen, e);

	if (r < 0 || seen == LOOK_ABSENT)
		return 1;
	return seen == LOOK_OURS ? 0 : err_set(e, -EEXIST, "'%s': object exists", name);
}

/* Steps 1 and 2. */
int swift_claim(struct store_swift *s, const char *name, const struct backend_source *source,
		const char *md5, struct err *e)
{
	uint64_t end_ns = clock_mono_ns() + SWIFT_SETTLE_NS;
	int status, r = 1;

	for (unsigned int i = 0; i < 2; i++) {
		enum look seen = LOOK_OTHER;

		r = look(s, name, md5, &seen, e);
		if (r < 0)
			return r;
		if (seen != LOOK_ABSENT)
			return err_set(e, -EEXIST, "'%s': object exists", name);
	}
	r = 1;
	for (unsigned int i = 0; i < PUTS_MAX && r > 0 && clock_mono_ns() < end_ns; i++) {
		r = swift_put_once(s, name, source, md5, true, &status, e);
		if (r < 0 && i == 0 && is_refusal(r, status))
			return r;
		if (r < 0)
			r = settle_put(s, name, md5, e);
	}
	if (r != 0 || clock_mono_ns() >= end_ns)
		return r < 0 ? r : uncertain(name, e);
	return 0;
}

/* Steps 4 and 5. */
int swift_confirm(struct store *store, const char *name, const struct backend_source *source,
		  struct err *e)
{
	struct store_swift *s = CONTAINER_OF(store, struct store_swift, store);
	char md5[SWIFT_MD5_TEXT_BYTES] = "";
	enum look seen = LOOK_ABSENT;
	uint64_t end_ns;
	int status, r = swift_md5(s, source, md5, e);

	/* Twice: it may just be replaced by another one who thinks that it is his. */
	for (unsigned int i = 0; i < 2 && r == 0 && seen == LOOK_ABSENT; i++) {
		end_ns = clock_mono_ns() + SWIFT_SETTLE_NS;
		r = look(s, name, md5, &seen, e);
	}
	if (r < 0)
		return r;
	if (seen != LOOK_OURS)
		return err_set(e, -EEXIST, "'%s': object exists, another client was faster", name);
	r = -EAGAIN;
	for (unsigned int i = 0; i < PUTS_MAX && r < 0 && clock_mono_ns() < end_ns; i++)
		r = swift_put_once(s, name, source, md5, false, &status, e);
	return r < 0 || clock_mono_ns() >= end_ns ? uncertain(name, e) : 0;
}
