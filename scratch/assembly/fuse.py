import numpy as np, sys
from xuankan_worker.releases.fusion import *
H='artifacts/home/'
def load(n):
    z=np.load(H+n); P=z['parts'].astype(float); c=z['candidates'].astype(int); own=c==z['truth'][:,None]
    L=np.full(c.shape,np.nan); np.put_along_axis(L,z['row_columns'].astype(int),z['row_logits'].astype(float),1)
    return P,own,L,z
def q(s,own):
    k=own.any(1); o=np.where(own,s,-1e18).max(1); r=(s>o[:,None]).sum(1)+1
    return [round(float(((r<=t)&k).mean()),4) for t in (1,3,5,10)]+[round(float((k/r).mean()),4)]
for m in ('minilm','mpnet'):
    P,own,L,z=load(f'{m}-rows-dev.npz'); k=own.any(1); col=own[k].argmax(1)
    wb=fit_weights(P[k],col); base=P@wb; print(m,'base',wb.round(3),q(base,own))
    for n,i in (('first',[0]),('enc',[1]),('mean',[2]),('dens',[3]),('no first',[1,2,3]),('no enc',[0,2,3]),('no near',[0,1])):
        w=fit_weights(P[k][:,:,i],col); print('   ',n,q(P[:,:,i]@w,own))
    have=~np.isnan(L); kk=(own&have).any(1)
    X=np.concatenate([P,np.nan_to_num(L)[:,:,None]],2)
    wf=fit_weights(X[kk],(own&have)[kk].argmax(1),valid=have[kk]); full=X@wf
    print('   full',wf.round(3))
    for cov,most in ((1.,32),(.98,32),(.95,32),(.95,20),(.9,20),(.9,16),(.85,16),(.8,12)):
        ch=in_play(base,cov,most)&have; s=with_rows(base,full,ch); print('   cascade',cov,most,'rows',round(ch.sum(1).mean(),2),q(s,own))
    ch=have; s=with_rows(base,full,ch); print('   logloss base',-log_softmax(base)[k][np.arange(k.sum()),col].mean(),'full',-s[k][np.arange(k.sum()),col].mean())
    P2,own2,L2,z2=load(f'{m}-late-dev.npz'); print('   late on dev base',q(P2@wb,own2))
print('==== final, once')
rng=np.random.default_rng(0)
import json; out={}
def rr(s,own):
    k=own.any(1); o=np.where(own,s,-1e18).max(1); return np.where(k,1/((s>o[:,None]).sum(1)+1),0)
sizes=None
for m in ('minilm','mpnet'):
    P,own,L,z=load(f'{m}-rows-dev.npz'); k=own.any(1); col=own[k].argmax(1); wb=fit_weights(P[k],col)
    have=~np.isnan(L); kk=(own&have).any(1); X=np.concatenate([P,np.nan_to_num(L)[:,:,None]],2); wf=fit_weights(X[kk],(own&have)[kk].argmax(1),valid=have[kk])
    pr=np.exp(log_softmax(P@wb)); print(m,'dev ECE top1',calibration_error(pr.max(1),own[np.arange(len(own)),pr.argmax(1)])[0], 'all', calibration_error(pr.ravel(),own.ravel())[0])
    for s in ('test','transfer'):
        P,own,L,z=load(f'{m}-late-{s}.npz'); base=P@wb; have=~np.isnan(L)
        full=np.concatenate([P,np.nan_to_num(L)[:,:,None]],2)@wf; ch=in_play(base,.85,16)&have; w=with_rows(base,full,ch)
        for n,x in (('no rows',base),('rows',w)):
            r=rr(x,own); b=[r[rng.integers(0,len(r),len(r))].mean() for _ in range(500)]; pr=np.exp(log_softmax(x))
            print(m,s,n,q(x,own),'MRR 95%',np.quantile(b,[.025,.975]).round(4),'rows',round(ch.sum(1).mean(),1) if n=='rows' else 0,'ECE',round(calibration_error(pr.max(1),own[np.arange(len(own)),pr.argmax(1)])[0],4))
            out[f'{m}/{s}/{n}']=q(x,own)
    print('   weights',wb.tolist(),wf.tolist())
json.dump(out,open('artifacts/final.json','w'))
