package localpg

import "syscall"

// room is what must be free for one more server: a few of them, with large tests, fill a part of it.
const room = 4 << 30

// noExec is the flag of a file system from which nothing can be run, as the copies of binaries out of reach must.
const noExec = 8

// roomInMemory says whether a server's folder may be in memory. Containers often have 64 MB there.
func roomInMemory() bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil {
		return false
	}
	return fs.Flags&noExec == 0 && fs.Bavail*uint64(fs.Bsize) >= room
}
