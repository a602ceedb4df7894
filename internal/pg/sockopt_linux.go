package pg

import "syscall"

// tcpUserTimeout is TCP_USER_TIMEOUT, see tcp(7).
const tcpUserTimeout = 18

// limitUnacknowledged makes the kernel end a connection whose other side has been silent for too long about what it was sent.
func limitUnacknowledged(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unacknowledged.Milliseconds()))
	}); controlErr != nil {
		return controlErr
	}
	return err
}
