// Package linger lets a peer that goes on sending see what it was sent last.
package linger

import (
	"net"
	"syscall"
	"time"
)

// Hold keeps a connection open for d, or until it is closed, and reads nothing more of it. To close one of which not all was read resets
// it, and what is on its way to the peer, perhaps the reason, is thrown away; a peer that can't send any more because nobody reads has time
// to look at what came. It changes the connection's read deadline. Where the connection is none of the system's it returns at once.
func Hold(c net.Conn, d time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(d)) // it fails only if there is nothing to hold
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(uintptr) bool { return false }) // ends with the deadline, or with the connection
}
