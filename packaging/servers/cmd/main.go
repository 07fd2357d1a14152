// Command servers shows and starts the servers of the tests for a person.
//
//	go run ./packaging/servers/cmd versions   prints which servers the tests will run
//	go run ./packaging/servers/cmd up         starts them, prints their addresses, and stops them on Ctrl-C
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/fulgidus/heimdall/packaging/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "up" {
		return up(ctx)
	}
	if len(args) == 1 && args[0] == "versions" {
		text, err := servers.Versions(ctx)
		if err == nil {
			fmt.Println(text)
		}
		return err
	}
	return fmt.Errorf("usage: servers versions|up, got %q", args)
}

func up(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "heimdall-servers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// PostgreSQL runs as its own account, which must be able to reach its directory.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	sub := func(name string) string {
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.Mkdir(path, 0o755)
		}
		return path
	}
	broker, postgres, timescale, minio := sub("mosquitto"), sub("postgres"), sub("timescaledb"), sub("minio")
	if err != nil {
		return err
	}
	b, err := servers.StartMosquitto(ctx, broker)
	if err != nil {
		return err
	}
	defer b.Stop()
	p, err := servers.StartPostgres(ctx, postgres)
	if err != nil {
		return err
	}
	defer p.Stop()
	t, err := servers.StartTimescaleDB(ctx, timescale)
	if err != nil {
		return err
	}
	defer t.Stop()
	o, err := servers.StartMinIO(ctx, minio)
	if err != nil {
		return err
	}
	defer o.Stop()
	fmt.Printf("mosquitto    %s\npostgres     %s\ntimescaledb  %s\nminio        %s   (AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s)\nCtrl-C stops them.\n",
		b.URL, p.URL("postgres"), t.URL, o.URL, o.AccessKey, o.SecretKey)
	<-ctx.Done()
	return nil
}
