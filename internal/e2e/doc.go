// Package e2e has the tests of the whole: real Postgres, the real binary, real clients. It holds no code of its own.
package e2e
