#!/usr/bin/env bash
# The kernel's NFS clients and its server, in a guest: see nfs.sh.
NFS_PART=guest exec "$(dirname "$0")/nfs.sh"
