//go:build !linux

package soak

import "errors"

// canMount says that there is no small disk but on Linux.
func canMount() bool { return false }

func mountDisk(string, int) error { return errors.ErrUnsupported }

func unmountDisk(string) error { return errors.ErrUnsupported }
