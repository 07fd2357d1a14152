package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/fulgidus/heimdall/agent/identity"
	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/protocol"
)

// takeCode reads the code of --join. What is left of standard input answers the other questions.
func (i *interview) takeCode(ctx context.Context, from string) error {
	if from != "-" {
		code, err := readCode(ctx, from, i.in, i.out)
		i.code = &code
		return err
	}
	text, err := i.in.Hidden(ctx, i.out, "code: ")
	if err != nil {
		return err
	}
	code, err := protocol.ParseEnrolmentCode(text)
	i.code = &code
	return err
}

var errOtherCollector = errors.New("then ask the operator for the right code")

// join asks for a code, shows whose it is, and enrols.
func (i *interview) join(ctx context.Context, id string) (station, broker string, err error) {
	for {
		text, err := i.in.Hidden(ctx, i.out, "               empty for another choice, or the code: ")
		if err != nil {
			return "", "", err
		}
		if strings.TrimSpace(text) == "" {
			return "", "", errBack
		}
		code, err := protocol.ParseEnrolmentCode(text)
		if err == nil {
			err = identity.Meet(ctx, code, i.now())
		}
		if err == nil {
			var right bool
			right, err = i.agree(ctx, fmt.Sprintf("               %s, certificate %s. Correct?", code.Host, shortly(code.Authority)), false)
			if err == nil && !right {
				err = errOtherCollector
			}
		}
		if err == nil {
			station, broker, err = i.enrol(ctx, code, id)
		}
		if err == nil || answers.Ended(err) || ctx.Err() != nil {
			return station, broker, err
		}
		fmt.Fprintf(i.out, "               %v\n", err)
	}
}

// enrol exchanges a code for an identity, and tells what the configuration is to say of it.
func (i *interview) enrol(ctx context.Context, code protocol.EnrolmentCode, id string) (station, broker string, err error) {
	if err := identity.Writable(i.state); err != nil {
		return "", "", err
	}
	granted, err := identity.Enrol(ctx, code, id, version, i.now())
	if err != nil {
		return "", "", err
	}
	i.joined = granted.Station
	files, err := granted.Save(i.state)
	if err != nil {
		return "", "", err
	}
	fmt.Fprintf(i.out, "               enrolled as %s; its key and certificate are in %s\n", granted.Station, filepath.Dir(files.Station))
	return granted.Station, "mqtt:\n" + brokerLines(granted, files), nil
}

func (i *interview) now() identity.Now {
	return trueTime(newClock(DefaultConfig(), slog.New(slog.DiscardHandler)))
}
