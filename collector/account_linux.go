package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is an account of this computer that the collector runs as; zero: the one that runs this program.
type account struct {
	name     string
	uid, gid int
}

// accountOf finds an account that root can act as; zero where there is none of this name, or this is not root.
func accountOf(name string) account {
	found, err := user.Lookup(name)
	if err != nil || os.Getuid() != 0 {
		return account{}
	}
	uid, errUID := strconv.Atoi(found.Uid)
	gid, errGID := strconv.Atoi(found.Gid)
	if errUID != nil || errGID != nil {
		return account{}
	}
	return account{name: name, uid: uid, gid: gid}
}

// do does something with the rights of the account, as a database that asks who is there and the owner of new files show. Nothing
// else may run in this process meanwhile.
func (a account) do(work func() error) (err error) {
	if a.name == "" {
		return work()
	}
	if _, set := os.LookupEnv("PGUSER"); !set { // the user that PostgreSQL is told where the URL has none
		_ = os.Setenv("PGUSER", a.name) // fails for no such name
		defer func() { _ = os.Unsetenv("PGUSER") }()
	}
	if err := syscall.Setegid(a.gid); err != nil {
		return fmt.Errorf("act as the group of %s: %w", a.name, err)
	}
	defer func() { err = back(err, syscall.Setegid(0)) }()
	if err := syscall.Seteuid(a.uid); err != nil {
		return fmt.Errorf("act as %s: %w", a.name, err)
	}
	defer func() { err = back(err, syscall.Seteuid(0)) }()
	return work()
}

// back is the error of the work, or of not being root again.
func back(err, stuck error) error {
	if err == nil && stuck != nil {
		return fmt.Errorf("act as root again: %w", stuck)
	}
	return err
}

// mayRead lets the account read a file of root's.
func (a account) mayRead(path string) error {
	if a.name == "" {
		return nil
	}
	if err := os.Chown(path, 0, a.gid); err != nil {
		return err
	}
	return os.Chmod(path, 0o640)
}
