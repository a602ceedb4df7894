package localbroker

import (
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServers(t *testing.T) {
	t.Parallel()
	for _, p := range []Program{Redis, NATS} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s, err := Start(p)
			if err != nil {
				t.Fatal(err)
			}
			dial := func() error {
				conn, err := net.Dial("tcp", s.Addr)
				if err == nil {
					conn.Close()
				}
				return err
			}
			for range 2 {
				if err := dial(); err != nil {
					t.Error(err)
				}
				if err := s.Kill(); err != nil {
					t.Error(err)
				}
				if dial() == nil {
					t.Error("it takes connections when it was killed")
				}
				if err := s.Resume(); err != nil {
					t.Error(err)
				}
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
				t.Errorf("its folder is left: %v", err)
			}
			if dial() == nil {
				t.Error("it takes connections when it was stopped")
			}
		})
	}
}

// TestNothingStaysOfAnOwnerThatDied: the guard does what Stop would have done.
func TestNothingStaysOfAnOwnerThatDied(t *testing.T) {
	t.Parallel()
	s, err := Start(Redis)
	if err != nil {
		t.Fatal(err)
	}
	r := s.run
	s.pipe.Close() // as the owner's death does
	if err := s.guard.Wait(); err != nil {
		t.Error(err)
	}
	<-r.done
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("its folder is left: %v", err)
	}
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	_, err := Start(Program{name: "no-such-broker", setup: "it"})
	if want := "no-such-broker is not on this machine: get it with scripts/setup.sh it"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
