/* What is known of inodes, and paths on both sides. */
#include "differ.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct object *object_of(struct differ *d, uint64_t ino)
{
	struct object *free_one = NULL;

	for (unsigned int i = 0; i < OBJECTS_MAX; i++) {
		struct object *o = &d->objects[(ino + i) % OBJECTS_MAX];

		if (o->ino == ino)
			return o;
		if (o->ino == 0) {
			free_one = o;
			break;
		}
	}
	/* Numbers of the mirror come again; those without a file are no harm. */
	if (!free_one)
		give_up("more than %u inodes", OBJECTS_MAX);
	*free_one = (struct object){ .ino = ino };
	return free_one;
}

void object_made(struct differ *d, uint64_t ino, bool disk)
{
	*object_of(d, ino) = (struct object){ .ino = ino, .may_be_disk = disk };
	d->objects_made[disk]++;
}

void object_wrote(struct differ *d, uint64_t ino, enum mtime mtime)
{
	struct object *o = object_of(d, ino);

	o->mtime = mtime;
}

void full_path(const struct differ *d, enum side side, const char *name, char path[PATH_BYTES])
{
	if (snprintf(path, PATH_BYTES, "%s/%s", d->root[side], name) >= (int)PATH_BYTES)
		give_up("the path of '%s' is too long", name);
}

void path_of(const struct differ *d, enum side side, unsigned int path, char text[PATH_BYTES])
{
	full_path(d, side, d->paths[path].text, text);
}

uint64_t mirror_ino(struct differ *d, unsigned int path, bool follow)
{
	char text[PATH_BYTES];
	struct stat st;

	path_of(d, M, path, text);
	if ((follow ? stat(text, &st) : lstat(text, &st)) < 0)
		return 0;
	return st.st_ino;
}

static bool find_below(int parent, const char *dir, uint64_t ino, char name[PATH_BYTES])
{
	int fd = openat(parent, dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool found = false;

	if (!list)
		give_up("the mirror's '%s': %s", dir, strerror(errno));
	while (!found && (e = readdir(list))) {
		char path[PATH_BYTES];

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", e->d_name) >=
		    (int)sizeof(path))
			give_up("the mirror's '%s' is too deep", dir);
		if (e->d_ino == ino) {
			memcpy(name, path, sizeof(path));
			found = true;
		} else if (e->d_type == DT_DIR) {
			found = find_below(parent, path, ino, name);
		}
	}
	(void)closedir(list);
	return found;
}

bool find_ino(struct differ *d, uint64_t ino, char name[PATH_BYTES])
{
	int root = open(d->root[M], O_RDONLY | O_DIRECTORY);
	bool found;

	if (root < 0)
		give_up("'%s': %s", d->root[M], strerror(errno));
	found = find_below(root, "", ino, name);
	(void)close(root);
	return found;
}
