
slurm-12 €€¨±ãŸçË2
amd64 € b:prog’./prog’	with argsš
/home/user