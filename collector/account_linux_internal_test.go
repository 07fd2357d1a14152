//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Root does things as another account, and is root again afterwards, also when they fail.
func TestAccount_ActsAndComesBack(t *testing.T) {
	if os.Getuid() != 0 {
		if a := accountOf("nobody"); a.name != "" {
			t.Errorf("%+v without being root", a)
		}
		t.Skip("needs root")
	}
	nobody := accountOf("nobody")
	if nobody.uid == 0 {
		t.Fatalf("%+v", nobody)
	}
	dir, err := os.MkdirTemp("", "heimdall-account-") //nolint:usetesting // nobody does not reach what is below t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "made")
	broken := errors.New("broken")
	err = nobody.do(func() error {
		if os.Getenv("PGUSER") != "nobody" {
			t.Errorf("PGUSER is %q", os.Getenv("PGUSER"))
		}
		return errors.Join(broken, os.WriteFile(path, nil, 0o600))
	})
	if !errors.Is(err, broken) || os.Geteuid() != 0 || os.Getegid() != 0 || os.Getenv("PGUSER") != "" {
		t.Errorf("%v, now %d:%d", err, os.Geteuid(), os.Getegid())
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != nobody.uid || int(owner.Gid) != nobody.gid {
		t.Errorf("made by %d:%d, want %d:%d", owner.Uid, owner.Gid, nobody.uid, nobody.gid)
	}
	secret := filepath.Join(dir, "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("x"), 0o600), nobody.mayRead(secret)); err != nil {
		t.Fatal(err)
	}
	err = nobody.do(func() error {
		_, err := os.ReadFile(secret)
		if os.WriteFile(secret, nil, 0o600) == nil {
			t.Error("it may write it as well")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
