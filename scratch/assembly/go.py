import sys, os, time, json, numpy as np, torch, traceback
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, str(Path(__file__).parent))
from xuankan_worker.releases.training_data import TrainingData
from xuankan_worker.releases.recipe import Recipe, joined
from xuankan_worker.releases.optimizing import Processes
from xuankan_worker.releases.encoder_training import EncoderSettings
from xuankan_worker.releases.pair_training import PairSettings
from xuankan_worker.releases.honest import Honest
from xuankan_worker.releases.rounding import restored
from xuankan_worker.releases.fusion import fit_weights, log_softmax
from safetensors.numpy import save_file
W=Path('scratch-tmp/w'); W.mkdir(exist_ok=True)
T0=time.time()
def say(*a): print(f'[{time.time()-T0:6.1f}]',*a,flush=True)
def unpack(fam):
    import fcntl; lock=open(W/(fam+".lock"),"w"); fcntl.flock(lock,fcntl.LOCK_EX)
    d=W/fam
    if (d/'model.safetensors').exists(): return d
    d.mkdir(exist_ok=True)
    with np.load(W/'blob'/f'{fam}.npz') as z: a=restored({k:z[k] for k in z.files})
    save_file(a,d/'model.safetensors')
    for n in ('config.json','tokenizer.json'): (d/n).write_bytes((W/'blob'/f'{fam}.{n}').read_bytes())
    return d
last={}
def report(n,p):
    if p.step==p.steps or time.time()-last.get(n,0)>8:
        last[n]=time.time(); say(n,p.step,p.steps,[round(x,4) for x in p.losses],round(p.papers_per_s),'/s',round(p.elapsed_s,1),'s')
def quality(path):
    z=np.load(path); parts=z['parts'].astype(np.float64); own=z['candidates']==z['truth'][:,None]; k=own.any(1)
    def mrr(s):
        o=np.where(own,s,-1e9).max(1); r=(s>o[:,None]).sum(1)+1
        return [round(float(x),4) for x in (((r==1)&k).mean(),((r<=5)&k).mean(),((r<=10)&k).mean(),(k/r).mean())]
    for i,n in enumerate(('first','enc','mean','density')): say('  ',n,mrr(parts[:,:,i]))
    w=fit_weights(parts[k],own[k].argmax(1)); s=parts@w
    say('   fused',mrr(s),w.round(3))
    if 'row_logits' in z.files:
        c=z['row_columns'].astype(int); b=np.take_along_axis(s,c,1); o=np.take_along_axis(own,c,1); kk=o.any(1)
        x=np.stack([b,z['row_logits']],2); w2=fit_weights(x[kk],o[kk].argmax(1))
        f=x@w2; full=np.full(s.shape,-1e6); full=s-1e3; np.put_along_axis(full,c,f,1); say('   with rows',mrr(full),w2.round(3))
        full=s-1e3; np.put_along_axis(full,c,z['row_logits'].astype(float),1); say('   rows alone',mrr(full))
def recipe(fam,out,first=None,**kw):
    o=W/out; o.mkdir(exist_ok=True)
    return Recipe(DATA,unpack(fam),o,torch.device('cuda'),Processes(),report,compiled=COMPILED,first=first,**kw)
COMPILED=False
torch.backends.cuda.matmul.allow_tf32=True
say('start',torch.cuda.get_device_name(0),torch.__version__)
DATA=TrainingData.load(W/'blob'/'data.npz'); say('data',{k:len(v) for k,v in DATA.splits.items()})
exec(open(sys.argv[1]).read())
