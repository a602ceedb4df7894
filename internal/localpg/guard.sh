# Waits until standard input ends, that is until the owner has released it or is dead; then ends the Postgres that runs
# in the folder $1, if one does, and removes the folder. Run as the user of the folder.
dir=$1
while read -r _; do :; done

# Only a process that names the folder is ours: the id may have been given to another since.
runs() {
	pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) || return 1
	[ -n "$pid" ] || return 1
	if [ -r "/proc/$pid/cmdline" ]; then
		tr '\0' ' ' <"/proc/$pid/cmdline"
	else
		ps -o command= -p "$pid"
	fi 2>/dev/null | grep -qF "$dir"
}

tries=0
while [ "$tries" -lt 100 ] && runs; do
	if [ "$tries" -eq 0 ]; then kill -QUIT "$pid"; fi
	if [ "$tries" -eq 60 ]; then kill -KILL "$pid"; fi
	tries=$((tries + 1))
	sleep 0.1
done
rm -rf "$dir"
