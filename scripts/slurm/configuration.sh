# Sourced by `cluster`: Slurm's configuration files.
# shellcheck shell=bash disable=SC2154

# The address that this machine's own name stands for, if it is a loopback one: the daemons listen there and nowhere else.
loopback() {
  local address
  address=$(getent ahostsv4 "$(hostname)" | head -n 1 | cut -d ' ' -f 1)
  [[ $address == 127.* ]] && echo "$address"
}

write_configuration() {
  slurm_conf >"$SLURM_CONF"
  # Nothing here uses cgroups, but slurmd asks for a plugin all the same; v1 touches nothing until it is used.
  printf '%s\n' 'CgroupPlugin=cgroup/v1' 'CgroupAutomount=no' >"$folder/cgroup.conf"
  : >"$folder/gres.conf"
  local number
  for ((number = 0; number < gpus; number++)); do
    # Slurm wants devices: these are like /dev/null.
    [ -e "$folder/gpu$number" ] || mknod "$folder/gpu$number" c 1 3
    echo "Name=gpu File=$folder/gpu$number" >>"$folder/gres.conf"
  done
}

slurm_conf() {
  local host address last=$((port + nodes)) types='' gres=''
  host=$(hostname -s)
  address=$(loopback)
  if ((gpus > 0)); then types=GresTypes=gpu gres=" Gres=gpu:$gpus"; fi
  cat <<EOT
ClusterName=parbench
SlurmUser=root
SlurmctldHost=$host($address)
SlurmctldPort=$port
# Listen on that address alone.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
# A requeued job starts when its old credential has run out: after 5 s instead of 120.
AuthInfo=socket=$folder/munge/socket,cred_expire=5

SlurmctldPidFile=$folder/pid/slurmctld
SlurmdPidFile=$folder/pid/slurmd.%n
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd.%n
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n

# All in user space: no cgroups, no network switch.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none

SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
# Quick, since the jobs are short.
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,bf_resolution=1
# Lost nodes are noticed after about 10 s more than this.
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
MinJobAge=3600
ReturnToService=2
JobRequeue=1
MailProg=/bin/true

# Jobs of the partition \`urgent\` push those of \`main\` out, which are told 10 s before, and run again afterwards.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal

# More CPUs and memory than the machine has are fine.
SlurmdParameters=config_overrides
$types
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=$address Port=[$((port + 1))-$last] CPUs=$cpus RealMemory=$memory$gres
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 DefMemPerCPU=100 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefaultTime=60 DefMemPerCPU=100 PriorityTier=10 PreemptMode=OFF
EOT
  if [ "$database" = 0 ]; then
    echo 'AccountingStorageType=accounting_storage/none'
  else
    # With munge, the password is the socket to slurmdbd.
    printf '%s\n' 'AccountingStorageType=accounting_storage/slurmdbd' "AccountingStorageHost=$address" \
      "AccountingStoragePort=$((last + 1))" "AccountingStoragePass=$folder/munge/socket"
  fi
}
