// Package capturetest holds what the migrations' SQL promises against a real Postgres: what is captured, how it is
// announced, who may do what, and that writers never fail because of it. It has tests only, and no test here runs code of
// the server but the canonical order of changes: the log and the notifications are looked at as a stranger to the program would.
package capturetest
