//go:build unix

package localpg

import (
	"errors"
	"io/fs"
	"os"
	osuser "os/user"
	"strconv"
	"syscall"
)

// runAs picks this process's own user, or for root an unprivileged one.
func runAs() (user, error) {
	if os.Geteuid() != 0 {
		return user{name: "this user", uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.ParseInt(u.Uid, 10, 64) // macOS has nobody as -2
		gid, errG := strconv.ParseInt(u.Gid, 10, 64)
		if errU != nil || errG != nil || uid == 0 {
			continue
		}
		return user{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return user{}, errors.New("as root Postgres needs a user postgres or nobody to run as, and there is neither: create one, or run as an ordinary user")
}

// process makes a process run as u in a session of its own.
func (u user) process() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if u.other {
		attr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: []uint32{u.gid}}
	}
	return attr
}

// lock takes a file for as long as it is open in this process; false if another process has it.
func lock(f *os.File) bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil }

// ownedBy says whether a file is u's.
func ownedBy(info fs.FileInfo, u user) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == u.uid
}
