//go:build !linux

package pg

import "syscall"

// limitUnacknowledged leaves it to the system's own limits: keepalives, and ours on queries, notice a dead host too.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
