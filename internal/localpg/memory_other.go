//go:build !linux

package localpg

func roomInMemory() bool { return false }
