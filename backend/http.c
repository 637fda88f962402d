/*
 * http - the client of http.h on libcurl's easy handles, one connection in each.
 *
 * A handle that was used lies on a stack with its connection still open; the one used last is taken
 * first, so that spare ones grow old and their servers close them.
 *
 * Sent once. libcurl repeats a request on a fresh connection when a kept one dies before the first
 * byte of an answer. The server may have carried it out all the same, and a conditional put would be
 * refused for its own object, unseen by the router, which only compares after a failure. Hence no
 * body can be rewound, which ends the repetition of whatever has one; a put or post of an empty body
 * gets a fresh connection to begin with. GET, HEAD and DELETE may be repeated.
 *
 * The last bytes of a source leave only once its checksum is right: the server gets less than was
 * announced of a wrong one, and stores nothing.
 */
#include "backend/http.h"

#include "backend/source.h"
#include "common/thread.h"
#include "common/units.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_DEFAULT	   16u
#define CONNECTIONS_MAX		   1024u
#define CONNECT_TIMEOUT_DEFAULT_NS (5 * NS_PER_SEC)
#define TIMEOUT_DEFAULT_NS	   (60 * NS_PER_SEC)
#define STALL_TIMEOUT_DEFAULT_NS   (10 * NS_PER_SEC)
#define TIMEOUT_MAX_NS		   (86400 * NS_PER_SEC)

#define SEND_BUFFER_BYTES    ((size_t)256 << 10) /* of a source in a file, and libcurl's own */
#define RECEIVE_BUFFER_BYTES ((size_t)128 << 10)
#define HEADER_BYTES_MAX     ((size_t)64 << 10) /* of an answer, interim ones included */
#define TEXT_BYTES_DEFAULT   ((size_t)1 << 20)
#define HOST_BYTES_MAX	     256 /* as shown */

struct connection {
	CURL *easy;
	uint8_t *buffer; /* SEND_BUFFER_BYTES, once a file was sent */
	struct connection *next;
};

struct http_client {
	struct env *env;
	struct http_options options; /* defaults filled in */
	char *ca_file;

	struct mutex lock; /* not ranked: nothing is taken while it is held */
	struct cond given_back;
	struct connection *idle;
	unsigned int busy_count, idle_count;
};

/* One request on its way. */
struct transfer {
	struct http_client *client;
	struct connection *connection;
	const struct http_request *request;
	struct http_answer *answer;
	struct curl_slist *headers;
	struct err *e;
	int failed; /* why a callback ended it, its words in e; 0: none did */
	char why[CURL_ERROR_SIZE];

	/* sending */
	uint64_t body_bytes, sent_bytes;
	struct backend_source source; /* the part of request->source */
	struct source_reader reader;
	size_t buffer_at, buffer_bytes;

	/* receiving */
	size_t header_bytes;
	bool headers_done; /* of the final answer; what follows are trailers */
};

/* ---- client -------------------------------------------------------------------------------- */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_result;

static void global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static uint64_t or_default(uint64_t given, uint64_t otherwise)
{
	return min_u64(given > 0 ? given : otherwise, TIMEOUT_MAX_NS);
}

static int take_options(struct http_client *c, const struct http_options *given, struct err *e)
{
	struct http_options *o = &c->options;
	struct env_file *file = NULL;
	int r;

	*o = *given;
	if (o->connections_max == 0)
		o->connections_max = CONNECTIONS_DEFAULT;
	o->connections_max = (unsigned int)min_u64(o->connections_max, CONNECTIONS_MAX);
	o->connect_timeout_ns = or_default(o->connect_timeout_ns, CONNECT_TIMEOUT_DEFAULT_NS);
	o->timeout_ns = or_default(o->timeout_ns, TIMEOUT_DEFAULT_NS);
	o->stall_timeout_ns = or_default(o->stall_timeout_ns, STALL_TIMEOUT_DEFAULT_NS);
	if (!o->ca_file)
		return 0;
	r = env_open(c->env, o->ca_file, ENV_READ, &file);
	if (r < 0 && r != -ELOOP) /* a link is libcurl's to follow */
		return err_set(e, r, "CA file '%s': %s", o->ca_file, err_name(r));
	if (r == 0)
		env_close(c->env, file);
	c->ca_file = strdup(o->ca_file);
	o->ca_file = c->ca_file;
	return c->ca_file ? 0 : err_set(e, -ENOMEM, "opening an HTTP client");
}

int http_client_open(struct env *env, const struct http_options *options,
		     struct http_client **ret_client, struct err *e)
{
	struct http_client *c;
	int r;

	ASSERT(pthread_once(&global_once, global_init) == 0);
	if (global_result != CURLE_OK)
		return err_set(e, -ENOMEM, "libcurl: %s", curl_easy_strerror(global_result));
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "opening an HTTP client");
	c->env = env;
	r = take_options(c, options, e);
	if (r < 0) {
		free(c);
		return r;
	}
	mutex_init(&c->lock, 0);
	cond_init(&c->given_back);
	*ret_client = c;
	return 0;
}

static void connection_free(struct connection *connection)
{
	curl_easy_cleanup(connection->easy);
	free(connection->buffer);
	free(connection);
}

void http_client_close(struct http_client *c)
{
	if (!c)
		return;
	ASSERT(c->busy_count == 0);
	while (c->idle) {
		struct connection *next = c->idle->next;

		connection_free(c->idle);
		c->idle = next;
	}
	cond_done(&c->given_back);
	mutex_done(&c->lock);
	free(c->ca_file);
	free(c);
}

static struct connection *connection_new(void)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		return NULL;
	connection->easy = curl_easy_init();
	if (!connection->easy) {
		free(connection);
		return NULL;
	}
	return connection;
}

static void connection_give_back(struct http_client *c, struct connection *connection)
{
	GUARD(&c->lock);

	ASSERT(c->busy_count > 0);
	c->busy_count--;
	if (connection) {
		connection->next = c->idle;
		c->idle = connection;
		c->idle_count++;
	}
	cond_signal(&c->given_back);
}

/* One that was used before, else a new one, else wait for one. */
static int connection_take(struct http_client *c, uint64_t deadline_ns,
			   struct connection **ret_connection, struct err *e)
{
	struct connection *connection;

	mutex_lock(&c->lock);
	while (c->busy_count == c->options.connections_max) {
		if (clock_mono_ns() >= deadline_ns) {
			mutex_unlock(&c->lock);
			return err_set(e, -ETIMEDOUT, "all %u connections are busy",
				       c->options.connections_max);
		}
		cond_wait(&c->given_back, &c->lock, deadline_ns);
	}
	c->busy_count++;
	connection = c->idle;
	if (connection) {
		c->idle = connection->next;
		c->idle_count--;
	}
	mutex_unlock(&c->lock);

	if (!connection) {
		connection = connection_new();
		if (!connection) {
			connection_give_back(c, NULL);
			return err_set(e, -EAGAIN, "no memory for a connection");
		}
	}
	*ret_connection = connection;
	return 0;
}

/* ---- sending ------------------------------------------------------------------------------- */

/* The next bytes of the source; the last ones only when its checksum is right. */
static ssize_t source_part(struct transfer *t, void *dst, size_t dst_len_bytes)
{
	ssize_t n = source_next(&t->reader, dst, dst_len_bytes, t->e);
	int r = 0;

	if (n >= 0 && t->reader.done_bytes == t->source.len_bytes)
		r = source_finish(&t->reader, t->e);
	if (n > 0 && r == 0 && t->request->sent)
		t->request->sent(t->request->sent_arg, dst, (size_t)n);
	return r < 0 ? r : n;
}

/* A file is read in large aligned pieces, as it may be open ENV_DIRECT. */
static ssize_t send_from_file(struct transfer *t, char *dst, size_t dst_len_bytes)
{
	uint8_t *buffer = t->connection->buffer;
	size_t len_bytes;

	if (t->buffer_at == t->buffer_bytes) {
		ssize_t n = source_part(t, buffer, SEND_BUFFER_BYTES);

		if (n <= 0)
			return n;
		t->buffer_at = 0;
		t->buffer_bytes = (size_t)n;
	}
	len_bytes = (size_t)min_u64(dst_len_bytes, t->buffer_bytes - t->buffer_at);
	memcpy(dst, buffer + t->buffer_at, len_bytes);
	t->buffer_at += len_bytes;
	return (ssize_t)len_bytes;
}

static size_t on_send(char *dst, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	const struct http_request *q = t->request;
	size_t len_bytes = (size_t)min_u64(size * count, t->body_bytes - t->sent_bytes);
	ssize_t n = (ssize_t)len_bytes;

	if (len_bytes == 0)
		return 0;
	if (q->body)
		memcpy(dst, (const char *)q->body + t->sent_bytes, len_bytes);
	else if (t->source.data)
		n = source_part(t, dst, len_bytes);
	else
		n = send_from_file(t, dst, len_bytes);
	if (n < 0) {
		t->failed = (int)n;
		return CURL_READFUNC_ABORT;
	}
	t->sent_bytes += (uint64_t)n;
	return (size_t)n;
}

/* See "sent once" at the top. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
	(void)arg;
	(void)offset;
	(void)origin;
	return CURL_SEEKFUNC_FAIL;
}

/* Which bytes are the body, before anything is sent. */
static int prepare_body(struct transfer *t)
{
	const struct http_request *q = t->request;
	const struct backend_source *whole = q->source;
	uint64_t len_bytes = q->source_len_bytes;

	if (q->body || !whole) {
		t->body_bytes = q->body ? q->body_len_bytes : 0;
		return 0;
	}
	ASSERT(q->source_offset_bytes <= whole->len_bytes);
	if (len_bytes == 0)
		len_bytes = whole->len_bytes - q->source_offset_bytes;
	ASSERT(len_bytes <= whole->len_bytes - q->source_offset_bytes);
	t->source = *whole;
	t->source.len_bytes = len_bytes;
	t->source.has_crc = whole->has_crc && len_bytes == whole->len_bytes;
	t->source.file_offset_bytes += q->source_offset_bytes;
	if (whole->data)
		t->source.data = (const char *)whole->data + q->source_offset_bytes;
	source_start(&t->reader, t->client->env, &t->source);
	if (q->sent)
		q->sent(q->sent_arg, NULL, 0);
	t->body_bytes = len_bytes;
	if (len_bytes == 0)
		return source_finish(&t->reader, t->e);
	if (!whole->data && !t->connection->buffer) {
		t->connection->buffer = aligned_alloc(ENV_DIRECT_ALIGN, SEND_BUFFER_BYTES);
		if (!t->connection->buffer)
			return err_set(t->e, -EAGAIN, "no memory to send a file");
	}
	return 0;
}

/* ---- receiving ----------------------------------------------------------------------------- */

static bool is_success(const struct transfer *t)
{
	return t->answer->status >= 200 && t->answer->status <= 299;
}

static size_t refuse(struct transfer *t, int code, const char *what)
{
	t->failed = err_set(t->e, code, "the answer %s", what);
	return 0; /* libcurl ends the transfer: that many bytes were not taken */
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	struct http_answer *a = t->answer;
	size_t len_bytes = size * count;

	if (is_success(t) && t->request->dst) {
		if (len_bytes > t->request->dst_len_bytes - a->body_bytes) {
			(void)refuse(t, -EUCLEAN, "has more bytes than were asked for");
			return CURL_WRITEFUNC_ERROR;
		}
		memcpy((char *)t->request->dst + a->body_bytes, data, len_bytes);
	} else if (is_success(t)) {
		int r = buf_append(&a->text, data, len_bytes);

		if (r < 0) {
			(void)refuse(t, r == -E2BIG ? -EFBIG : -EAGAIN, "is too long to be kept");
			return CURL_WRITEFUNC_ERROR;
		}
	} else {
		/* Of an error's words those that fit: the status says enough. */
		size_t room_bytes = a->text.max_bytes - a->text.len_bytes;

		if (buf_append(&a->text, data, (size_t)min_u64(len_bytes, room_bytes)) < 0)
			a->text.max_bytes = a->text.len_bytes;
	}
	a->body_bytes += len_bytes;
	return len_bytes;
}

/* "HTTP/1.1 200 OK": begins the headers anew, as the ones before were of an interim answer. */
static void begin_answer(struct transfer *t, const char *line, size_t len_bytes)
{
	const char *blank = memchr(line, ' ', len_bytes);
	int status = 0;

	buf_clear(&t->answer->headers);
	for (size_t i = 1; blank && i <= 3 && blank + i < line + len_bytes; i++) {
		if (blank[i] < '0' || blank[i] > '9')
			break;
		status = 10 * status + (blank[i] - '0');
	}
	t->answer->status = status;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Keep "Name: value" as "name\0value\0"; what is not of that form is left out. */
static int keep_header(struct buf *headers, const char *line, size_t len_bytes)
{
	const char *colon = memchr(line, ':', len_bytes);
	const char *value, *end = line + len_bytes;
	uint8_t *at;
	size_t name_bytes, value_bytes;

	if (!colon || colon == line || is_blank(line[0]))
		return 0;
	for (value = colon + 1; value < end && is_blank(*value); value++)
		;
	while (end > value && is_blank(end[-1]))
		end--;
	name_bytes = (size_t)(colon - line);
	value_bytes = (size_t)(end - value);
	if (memchr(line, '\0', len_bytes))
		return 0;
	at = buf_extend(headers, name_bytes + 1 + value_bytes + 1);
	if (!at)
		return -ENOMEM;
	for (size_t i = 0; i < name_bytes; i++)
		at[i] = (uint8_t)(line[i] >= 'A' && line[i] <= 'Z' ? line[i] + ('a' - 'A') :
								     line[i]);
	at[name_bytes] = '\0';
	memcpy(at + name_bytes + 1, value, value_bytes);
	at[name_bytes + 1 + value_bytes] = '\0';
	return 0;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len_bytes = size * count;

	t->header_bytes += len_bytes;
	if (t->header_bytes > HEADER_BYTES_MAX)
		return refuse(t, -EFBIG, "has too many headers");
	if (t->headers_done)
		return len_bytes;
	if (len_bytes > 5 && memcmp(line, "HTTP/", 5) == 0)
		begin_answer(t, line, len_bytes);
	else if (len_bytes <= 2 && is_blank(line[0]))
		t->headers_done = t->answer->status >= 200;
	else if (keep_header(&t->answer->headers, line, len_bytes) < 0)
		return refuse(t, -EAGAIN, "has headers for which there is no memory");
	return len_bytes;
}

/* ---- one request --------------------------------------------------------------------------- */

/* The host and port of a URL, for messages. */
static const char *host_of(const char *url, char ret_host[HOST_BYTES_MAX])
{
	const char *host = strstr(url, "://");
	size_t len_bytes;

	host = host ? host + 3 : url;
	len_bytes = (size_t)min_u64(strcspn(host, "/?#"), HOST_BYTES_MAX - 1);
	memcpy(ret_host, host, len_bytes);
	ret_host[len_bytes] = '\0';
	return ret_host;
}

/* A user name in a URL would be a secret in one more place; nobody here needs it. */
static int check_url(const char *url, struct err *e)
{
	const char *host = strstr(url, "://");

	if (!host || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
		return err_set(e, -EINVAL, "a URL begins with http:// or https://");
	host += 3;
	if (memchr(host, '@', strcspn(host, "/?#")))
		return err_set(e, -EINVAL, "a URL must not have a user name");
	return 0;
}

static int check_header(const struct http_header *h, struct err *e)
{
	for (const char *c = h->name; *c != '\0'; c++) {
		if (*c <= ' ' || *c > '~' || *c == ':')
			return err_set(e, -EINVAL, "a header has a bad name");
	}
	if (h->name[0] == '\0')
		return err_set(e, -EINVAL, "a header has no name");
	if (strpbrk(h->value, "\r\n"))
		return err_set(e, -EINVAL, "header '%s' has more than one line", h->name);
	return 0;
}

static int add_line(struct transfer *t, const char *line)
{
	struct curl_slist *list = curl_slist_append(t->headers, line);

	if (!list)
		return err_set(t->e, -EAGAIN, "no memory for headers");
	t->headers = list;
	return 0;
}

static int add_header(struct transfer *t, const struct http_header *h)
{
	struct buf line;
	int r = check_header(h, t->e);

	if (r < 0)
		return r;
	buf_init(&line, SIZE_MAX / 2);
	/* A header without a value is written with a semicolon: "Name:" would remove it. */
	r = h->value[0] == '\0' ? buf_printf(&line, "%s;", h->name) :
				  buf_printf(&line, "%s: %s", h->name, h->value);
	r = r < 0 ? err_set(t->e, -EAGAIN, "no memory for headers") :
		    add_line(t, (const char *)line.data);
	if (line.data)
		explicit_bzero(line.data, line.cap_bytes);
	buf_done(&line);
	return r;
}

static int add_headers(struct transfer *t)
{
	const struct http_request *q = t->request;
	bool has_type = false;
	int r;

	if (q->header_count > HTTP_HEADERS_MAX)
		return err_set(t->e, -EINVAL, "a request has %zu headers", q->header_count);
	for (size_t i = 0; i < q->header_count; i++) {
		has_type |= strcasecmp(q->headers[i].name, "content-type") == 0;
		r = add_header(t, &q->headers[i]);
		if (r < 0)
			return r;
	}
	r = add_line(t, "Expect:");
	if (r == 0 && !has_type)
		r = add_line(t, "Content-Type:"); /* not that of a form */
	return r;
}

/* Values of headers are tokens: gone before their memory is anybody's. */
static void free_headers(struct curl_slist *headers)
{
	for (struct curl_slist *at = headers; at; at = at->next)
		explicit_bzero(at->data, strlen(at->data));
	curl_slist_free_all(headers);
}

/* Options cannot fail but for memory, which shows in the first one that does. */
#define SET(option, value)                                                                         \
	do {                                                                                       \
		if (rc == CURLE_OK)                                                                \
			rc = curl_easy_setopt(easy, option, value);                                \
	} while (0)

static long to_ms(uint64_t ns)
{
	return (long)max_u64(1, div_up_u64(ns, NS_PER_MS));
}

static CURLcode set_connection(struct transfer *t, CURL *easy, uint64_t deadline_ns)
{
	const struct http_options *o = &t->client->options;
	uint64_t now_ns = clock_mono_ns();
	CURLcode rc = CURLE_OK;

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_PROXY, ""); /* whatever the environment says */
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_MAXCONNECTS, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TIMEOUT_MS, to_ms(deadline_ns > now_ns ? deadline_ns - now_ns : 1));
	SET(CURLOPT_CONNECTTIMEOUT_MS, to_ms(o->connect_timeout_ns));
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, (long)div_up_u64(o->stall_timeout_ns, NS_PER_SEC));
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (o->ca_file) {
		/* Who names a CA means that one alone. */
		SET(CURLOPT_CAINFO, o->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	return rc;
}

static CURLcode set_body(struct transfer *t, CURL *easy)
{
	CURLcode rc = CURLE_OK;

	SET(CURLOPT_READFUNCTION, on_send);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_SEEKFUNCTION, on_rewind);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER_BYTES);
	SET(CURLOPT_FRESH_CONNECT, t->body_bytes == 0 ? 1L : 0L);
	return rc;
}

static CURLcode set_method(struct transfer *t, CURL *easy)
{
	const char *method = t->request->method;
	CURLcode rc = CURLE_OK;

	if (strcmp(method, "GET") == 0) {
		SET(CURLOPT_HTTPGET, 1L);
	} else if (strcmp(method, "HEAD") == 0) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (strcmp(method, "DELETE") == 0) {
		SET(CURLOPT_CUSTOMREQUEST, "DELETE");
	} else if (strcmp(method, "PUT") == 0) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->body_bytes);
		return rc == CURLE_OK ? set_body(t, easy) : rc;
	} else if (strcmp(method, "POST") == 0) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body_bytes);
		return rc == CURLE_OK ? set_body(t, easy) : rc;
	} else {
		rc = CURLE_BAD_FUNCTION_ARGUMENT;
	}
	if (t->body_bytes > 0)
		rc = CURLE_BAD_FUNCTION_ARGUMENT;
	return rc;
}

static CURLcode set_request(struct transfer *t, CURL *easy)
{
	CURLcode rc = CURLE_OK;

	SET(CURLOPT_URL, t->request->url);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_USERAGENT, "vpool");
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_ERRORBUFFER, t->why);
	SET(CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER_BYTES);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	return rc;
}

/* libcurl's codes in the house's; t->why has no more in it than host names and numbers. */
static int translate(struct transfer *t, CURLcode rc)
{
	const char *why = t->why[0] != '\0' ? t->why : curl_easy_strerror(rc);
	char host[HOST_BYTES_MAX];

	host_of(t->request->url, host);
	if (t->failed < 0)
		return err_wrap(t->e, t->failed, "'%s'", host);
	switch ((int)rc) {
	case CURLE_URL_MALFORMAT:
	case CURLE_BAD_FUNCTION_ARGUMENT:
		return err_set(t->e, -EINVAL, "'%s': a bad URL or request: %s", host,
			       curl_easy_strerror(rc));
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(t->e, -EHOSTUNREACH,
			       "'%s': no such host: check its name and the name server", host);
	case CURLE_COULDNT_CONNECT:
		return err_set(t->e, -EAGAIN,
			       "'%s': %s: check host and port, and that the store runs", host, why);
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(t->e, -ETIMEDOUT, "'%s': %s", host, why);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		return err_set(t->e, -EKEYREJECTED,
			       "'%s': %s: set ca_file to its CA, or use the name it was made for",
			       host, why);
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
		return err_set(t->e, -EKEYREJECTED, "CA file '%s' has no certificates to read",
			       t->client->ca_file ? t->client->ca_file : "of the system");
	case CURLE_PARTIAL_FILE:
		/* Short of dst is the caller's to judge, who knows how long the object is. */
		return err_set(t->e, t->request->dst ? -EUCLEAN : -EAGAIN,
			       "'%s': the answer was cut short", host);
	default:
		return err_set(t->e, -EAGAIN, "'%s': %s", host, why);
	}
}

/* There is a whole answer: is it one that was asked for? */
static int judge(struct transfer *t)
{
	const struct http_answer *a = t->answer;
	char host[HOST_BYTES_MAX];

	/* libcurl takes an end among the headers for the end of a body without length. */
	if (!t->headers_done)
		return err_set(t->e, -EAGAIN, "'%s': the answer was cut short",
			       host_of(t->request->url, host));
	if (a->status < 200 || a->status > 599)
		return err_set(t->e, -EAGAIN, "'%s': status %d is not of HTTP",
			       host_of(t->request->url, host), a->status);
	if (is_success(t) && t->request->dst && a->body_bytes != t->request->dst_len_bytes)
		return err_set(t->e, -EUCLEAN, "'%s': %" PRIu64 " bytes came, not %zu",
			       host_of(t->request->url, host), a->body_bytes,
			       t->request->dst_len_bytes);
	return 0;
}

static int transfer_run(struct transfer *t, uint64_t deadline_ns)
{
	CURL *easy = t->connection->easy;
	CURLcode rc;
	int r = prepare_body(t);

	if (r < 0)
		return r;
	r = add_headers(t);
	if (r < 0)
		return r;
	curl_easy_reset(easy); /* options only: its connection stays */
	rc = set_connection(t, easy, deadline_ns);
	if (rc == CURLE_OK)
		rc = set_request(t, easy);
	if (rc == CURLE_OK)
		rc = set_method(t, easy);
	if (rc == CURLE_OK)
		rc = curl_easy_perform(easy);
	r = rc == CURLE_OK ? judge(t) : translate(t, rc);
	curl_easy_reset(easy); /* it knows memory of this call */
	return r;
}

int http_perform(struct http_client *c, const struct http_request *request,
		 struct http_answer *ret_answer, struct err *e)
{
	struct transfer t = { .client = c, .request = request, .answer = ret_answer, .e = e };
	uint64_t deadline_ns = clock_mono_ns() + c->options.timeout_ns;
	size_t text_bytes_max = request->text_bytes_max;
	int r = check_url(request->url, e);

	ASSERT(!request->body || !request->source);
	if (r < 0)
		return r;
	ret_answer->status = 0;
	ret_answer->body_bytes = 0;
	buf_init(&ret_answer->text, text_bytes_max > 0 ? text_bytes_max : TEXT_BYTES_DEFAULT);
	buf_init(&ret_answer->headers, HEADER_BYTES_MAX + 2);
	r = connection_take(c, deadline_ns, &t.connection, e);
	if (r < 0)
		return r;
	r = transfer_run(&t, deadline_ns);
	/* There is no connection left to keep, and after a name that did not resolve libcurl's handle
	 * refuses all that follows (seen with 7.88). */
	if (r < 0)
		connection_free(TAKE_PTR(t.connection));
	connection_give_back(c, t.connection);
	free_headers(t.headers);
	if (ret_answer->status < 200)
		ret_answer->status = 0; /* an interim one is none */
	return r;
}
