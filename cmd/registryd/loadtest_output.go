package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hostlocal/loadtest"
	loadreport "hostlocal/loadtest/report"
)

// An output is where a report goes beside the terminal.
type output struct {
	html, json string
	files      []*outputFile
}

// An outputFile is a report on its way to disk: it appears under its name complete
// or not at all.
type outputFile struct {
	*os.File
	name  string
	write func(io.Writer, loadtest.Report) error
}

func (o *output) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.html, "report", "", "`file` for the report as one page of HTML, for any browser")
	cmd.Flags().StringVar(&o.json, "json", "", "`file` for the report as JSON, for programs and loadtest report")
	cobra.CheckErr(cmd.MarkFlagFilename("report", "html"))
	cobra.CheckErr(cmd.MarkFlagFilename("json", "json"))
}

// open makes the files before the run: half an hour of load must not end at a
// folder that is not there. close removes what was not written.
func (o *output) open() error {
	for _, f := range []outputFile{{name: o.html, write: loadreport.WriteHTML}, {name: o.json, write: loadreport.WriteJSON}} {
		if f.name == "" {
			continue
		}
		var err error
		if f.File, err = os.CreateTemp(filepath.Dir(f.name), "."+filepath.Base(f.name)+".*"); err != nil {
			o.close()
			return exit(exitReport, "the report could not be written: %w", err)
		}
		o.files = append(o.files, &f)
	}
	return nil
}

// save writes all files. One that cannot be written does not keep the others from it.
func (o *output) save(r loadtest.Report) error {
	var failed []error
	for _, f := range o.files {
		if err := f.save(r); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return exit(exitReport, "the report could not be written: %w", err)
	}
	return nil
}

func (f *outputFile) save(r loadtest.Report) error {
	w := bufio.NewWriterSize(f, 256<<10)
	err := f.write(w, r)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync() // a disk quota may speak up only now
	}
	if err == nil {
		err = os.Rename(f.Name(), f.name)
	}
	return err
}

func (o *output) close() {
	for _, f := range o.files {
		f.Close()
		os.Remove(f.Name()) // gone, if it was renamed
	}
	o.files = nil
}
