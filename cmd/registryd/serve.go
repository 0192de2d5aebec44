package main
import "github.com/spf13/cobra"
func serveCommand(load loader) *cobra.Command { return &cobra.Command{Use:"serve"} }
