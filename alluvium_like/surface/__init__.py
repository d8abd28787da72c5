"""What people and programs talk to: making and looking at a workspace, and the daemon's socket."""
