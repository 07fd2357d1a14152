package service

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kardianos/service"
)

// thisSystem is the computer itself.
func thisSystem() system {
	return system{
		admin: isAdmin(), systemd: service.Platform() == "linux-systemd", run: command,
		control: func(c service.Config) (service.Service, error) { return service.New(nil, &c) },
		ourBinary: func() (string, error) {
			path, err := os.Executable()
			if err != nil {
				return "", err
			}
			return filepath.EvalSymlinks(path)
		},
	}
}

// command runs one of the system's own programs.
func command(name string, args ...string) error {
	var said bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
