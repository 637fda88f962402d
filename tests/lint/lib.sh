# shellcheck shell=bash
# Sourced by each rule: the tree that it looks at, and lists of the tree's files. A rule prints one
# line a violation, "file:line: what", and exits 1 if it printed any (report, at its end).
set -u -o pipefail

# shellcheck disable=SC2034 # used by rules
lint_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LINT_ROOT=${LINT_ROOT:-$(cd "$lint_dir/../.." && pwd)}
cd "$LINT_ROOT" || exit 2
if [[ -z ${LINT_TMP:-} ]]; then # a rule that is run by hand
	LINT_TMP=$(mktemp) || exit 2
	trap 'rm -f "$LINT_TMP"' EXIT
fi

# The modules from the top down.
# shellcheck disable=SC2034 # used by rules
modules=(fs volume backend common)
violations=0

violation() {
	printf '%s\n' "$1"
	violations=$((violations + 1))
}

# Turn each line of standard input into a violation.
violation_each() {
	local line
	while IFS= read -r line; do
		violation "$line"
	done
}

# needs PROGRAM: without it a rule would find nothing and pass.
needs() {
	command -v "$1" >/dev/null && return
	violation "$1 is missing: run packaging/setup"
	report
}

report() {
	exit $((violations > 0))
}

# tree_files [find's conditions]: the tree's own files, sorted, without ./ before them.
tree_files() {
	find . \( -path ./.git -o -path './build' -o -path './build-*' -o -path ./.cache \) -prune \
		-o -type f \( "${@:--true}" \) -print | sed 's|^\./||' | LC_ALL=C sort
}

c_files() {
	tree_files \( -name '*.c' -o -name '*.h' \)
}

# c_files_of DIRECTORY...: of those directories only; ones that are missing are empty.
c_files_of() {
	local dir
	for dir in "$@"; do
		c_files | grep "^$dir/" || true
	done
}

scripts() {
	tree_files \( -name '*.sh' -o -executable -o -path './packaging/*' -o -path './.ci/*' \) |
		while IFS= read -r file; do
			if [[ $file == *.sh ]] || head -n 1 "$file" | grep -aqE '^#!.*\b(ba|da)?sh\b'; then
				printf '%s\n' "$file"
			fi
		done
}

# includes FILE...: every #include as "file:line:<name>" or "file:line:"name"".
includes() {
	(($# == 0)) && return
	grep -HnoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"][^>"]*[>"]' "$@" |
		sed -E 's/#[[:space:]]*include[[:space:]]*//; s/:[[:space:]]+/:/'
}

# code_lines FILE: "file:line:text" with comments and the insides of literals blanked out.
code_lines() {
	perl -0777 -e '
		my $file = shift;
		open(my $in, "<", $file) or die "$file: $!\n";
		my $text = <$in>;
		$text =~ s{(/\*.*?\*/)|(//[^\n]*)|("(?:\\.|[^"\\\n])*")|(\x27(?:\\.|[^\x27\\\n])*\x27)}
			  {my $m = $&; my $lines = ($m =~ tr/\n//);
			   (defined $3 ? "\"\"" : defined $4 ? "0" : " ") . "\n" x $lines}gse;
		my $number = 0;
		print map { $number++; "$file:$number:$_\n" } split(/\n/, $text, -1);
	' "$1"
}
