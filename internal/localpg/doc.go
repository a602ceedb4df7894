// Package localpg runs a private, throwaway Postgres from the binaries on this machine: for the demo and for tests.
//
// A Server is one cluster in a temporary folder of its own, reachable on the loopback interface and through a Unix
// socket in that folder, without a password. The folder can be entered by nobody but the user that the server runs as;
// Options.SocketOnly leaves the loopback interface out where other users of the machine are not to be trusted.
//
// What holds:
//
//   - Postgres refuses to run as root. A process that runs as root starts it as the user postgres, else as nobody.
//   - Nothing stays behind. Stop ends all processes of the server and removes its folder. If the owner itself is
//     killed, its guard does the same: a small shell that waits for the end of a pipe whose other end only the owner
//     holds. If the guard was killed too, the next Start on the machine removes what they left.
//   - A signal meant for the owner (Ctrl-C in its terminal) does not reach the server: server and guard run in
//     sessions of their own.
//   - Kill, Shutdown and Resume keep the folder and the port, so that a test can see a crash and a restart.
//
// The methods of a Server may be called from any goroutine; those that start or end its processes exclude one another.
// For each run of the server two goroutines exist, one reading what it logs, one waiting for its end; both have ended
// when Stop, Kill or Shutdown returns.
//
// The package imports nothing of ours: who needs tables creates them.
package localpg
